"""Settings: flags, then `LICTOR_*` variables, then `lictor.toml` in the state directory."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lictor.exceptions import NotInitialisedError

TOML = "lictor.toml"
DEFAULT_BUNDLES_URL = "http://127.0.0.1:8180"


def default_state() -> Path:
    """`$LICTOR_STATE`, else `$XDG_STATE_HOME/lictor`, by default `~/.local/state/lictor`."""
    if named := os.environ.get("LICTOR_STATE"):
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "lictor"


class Settings(BaseSettings):
    """The settings. By default all paths are in the state directory."""

    model_config = SettingsConfigDict(env_prefix="LICTOR_", extra="forbid", frozen=True)

    state: Path = Field(default_factory=default_state)
    """The state directory: keys, registry, published bundles, sockets."""
    registry: str = ""
    """`sqlite:///…` or `neo4j://…`; by default a file in the state directory."""
    registry_password_file: Path | None = None
    """Holds the password of the user in `registry`'s URL."""
    cypher: Path | None = None
    """A folder of `.cypher` files that read a graph of another shape."""
    keys: Path = Path()
    """The folder of signing keys, one JWK set for each issuer."""
    site: Path = Path()
    """The folder of the site's own rules."""
    opa_url: str = ""
    """`unix:///…`, `http://…` or `https://…`."""
    opa_token_file: Path = Path()
    """Holds the bearer that OPA asks for."""
    bundles_url: str = DEFAULT_BUNDLES_URL
    """The URL at which `lictor serve` listens, and OPA and `lictor` reach it."""
    redis_url: str = Field(default="", repr=False)
    """`redis://`, `rediss://` or `unix://`: what instances share; may hold a password."""
    artefacts_url: str = ""
    """`file:///folder` or `s3://bucket/prefix`: where what is published is written as well."""
    unheard: bool | None = None
    """Whether OPAs fetch from a static host, and so do not report; default: with a store alone."""
    shards: int | None = Field(default=None, ge=1, le=64)
    """Base shards of a new epoch; by default by the registry's size."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, TOML; nothing else."""
        del dotenv_settings, file_secret_settings
        state = init_settings().get("state") or default_state()
        toml = TomlConfigSettingsSource(settings_cls, toml_file=Path(state) / TOML)
        return init_settings, env_settings, toml

    def model_post_init(self, _: Any) -> None:
        """Put what was not set into the state directory."""
        state = self.state.expanduser().absolute()
        defaults = {
            "registry": f"sqlite:///{state / 'registry.db'}",
            "keys": state / "keys",
            "site": state / "site",
            "opa_url": f"unix://{state / 'opa' / 'opa.sock'}",
            "opa_token_file": state / "opa" / "client.token",
        }
        object.__setattr__(self, "state", state)
        for name, default in defaults.items():
            value = getattr(self, name) if name in self.model_fields_set else default
            object.__setattr__(self, name, value.expanduser() if isinstance(value, Path) else value)

    @property
    def has_unreported_instances(self) -> bool:
        """Whether some OPAs do not report. A store without Redis normally serves such OPAs."""
        if self.unheard is not None:
            return self.unheard
        return bool(self.artefacts_url and not self.redis_url)

    @property
    def bundles(self) -> Path:
        """The folder of published bundles."""
        return self.state / "bundles"

    @property
    def bundle_keys(self) -> Path:
        """The folder of the keys that sign bundles."""
        return self.state / "bundle-keys"

    @property
    def bundles_token_file(self) -> Path:
        """Holds a bearer that may read bundles and metrics, and acknowledges nothing."""
        return self.state / "bundles.token"

    @property
    def instances_key(self) -> Path:
        """Holds the secret that the bearers of OPA instances are made from."""
        return self.state / "instances.key"

    @property
    def newest_key(self) -> Path:
        """Holds what authenticates the state that MCP servers share; they need it too."""
        return self.state / "newest.key"

    @property
    def admin_socket(self) -> Path:
        """The socket over which `lictor` wakes `lictor serve`."""
        return self.state / "admin.sock"

    @property
    def usage_place(self) -> Path:
        """Notes how far `record` was read for the use of tokens."""
        return self.state / "usage.json"

    @property
    def shared_state(self) -> Path:
        """Holds the jtis and use counts that MCP servers share through `lictor serve`."""
        return self.state / "shared.db"

    @property
    def record(self) -> Path:
        """The decisions that `lictor decide` makes."""
        return self.state / "decisions.jsonl"


def require(settings: Settings) -> None:
    """Refuse to work in a directory that `lictor init` has not made.

    Raises:
        NotInitialisedError: it is not there.
    """
    if not (settings.state / TOML).exists():
        raise NotInitialisedError(f"{settings.state} is not initialised; run: lictor init")


def read_secret(path: Path) -> str:
    """Read a one-line secret file.

    Raises:
        NotInitialisedError: it cannot be read.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise NotInitialisedError(f"{path}: no readable secret ({type(error).__name__})") from None
