"""What several `lictor serve` processes share: one publishes, all serve (docs/adr/0007).

`lease` says who publishes, `artefacts` and `mirror` keep what was published in a store, `replica`
follows that store, `bus` tells all of them what happens, `turns` makes them take turns.
"""
