"""What a server is told at start. No input or output here."""

import math
import re
from dataclasses import dataclass, fields

from jaspertc.errors import ConfigError

# As browsers send it, without the usual port.
ORIGIN = re.compile(
    r"(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?"
)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits and promises of a server. All counts and times are > 0.

    Args:
        name: the model's name in requests; ``None`` takes it from the model.
        host: address to listen on.
        port: 0 lets the system choose.
        api_keys: any of these opens the server; none leaves it open.
        allow_without_key: listen beyond this machine without a key, and answer under any host name.
        cors_origins: web origins, ``scheme://host[:port]``, whose pages may call this server, or ``*``; by
            default none.
        allow_token_ids: accept arrays of ids of this model's own tokenizer.
        batch_tokens: compressed tokens per batch; ``None`` takes half of the runtime's own budget,
            which keeps the device busy and lets a short request in twice as often.
        max_inputs: texts per request.
        max_text_tokens: tokens per text; ``None`` takes the model's limit, else 32768.
        max_request_tokens: tokens per request, all texts together.
        max_request_bytes: size of a request's body.
        max_images: pictures per request.
        max_image_pixels: pixels of a picture, by what its file's head says.
        max_requests: requests inside the server at one time; more are refused with 429.
        max_wait_s: a request that would wait longer than this for others is refused with 429.
        request_timeout_s: an accepted request gets a 503 after this time.
        body_timeout_s: a request whose head or body takes longer than this to arrive is dropped.
        slo_ms: the latency promise; ``None`` for none.
        slo_floor: lowest ratio that the promise may choose, in (0, 1].
        threads: threads that compute; ``None`` leaves it to PyTorch, or takes all cores.
        refine: in idle time, bring the vectors of the index to this ratio, in (0, 1]; ``None``: leave them.

    Raises:
        ConfigError: a value is out of range.
    """

    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    allow_without_key: bool = False
    cors_origins: tuple[str, ...] = ()
    allow_token_ids: bool = False
    batch_tokens: int | None = None
    max_inputs: int = 2048
    max_text_tokens: int | None = None
    max_request_tokens: int = 300_000
    max_request_bytes: int = 8 * 1024 * 1024
    max_images: int = 16
    max_image_pixels: int = 25_000_000
    max_requests: int = 1024
    max_wait_s: float = 10.0
    request_timeout_s: float = 600.0
    body_timeout_s: float = 30.0
    slo_ms: float | None = None
    slo_floor: float = 0.2
    threads: int | None = None
    refine: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and item.name != "port" and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{item.name} is {value!r}, it must be > 0")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}, it must lie in 0 ... 65535; 0 lets the system choose")
        if self.slo_floor > 1:
            raise ConfigError(f"slo_floor is {self.slo_floor}, it must lie in (0, 1]")
        for origin in self.cors_origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"cors_origins has {origin!r}, it must be scheme://host[:port] in lower case, without a "
                    "path or the usual port, such as https://app.example.org"
                )
        if "*" in self.cors_origins and not self.api_keys:
            raise ConfigError(
                "cors_origins is '*' without an API key: any web page could use this server; name the "
                "origins, such as https://app.example.org, or set a key"
            )
