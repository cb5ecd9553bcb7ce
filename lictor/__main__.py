"""`python -m lictor`."""

from lictor.cli import main

if __name__ == "__main__":  # processes of their own import this too (`bundles.publish.shards`)
    main()
