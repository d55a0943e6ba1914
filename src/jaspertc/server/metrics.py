"""What Prometheus reads at ``/metrics``. Nothing here holds a text."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one server; each server has a registry of its own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"jaspertc_{name}", text, registry=registry, buckets=buckets)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"jaspertc_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"jaspertc_{name}", text, registry=registry)

        self.registry = registry
        self.requests = counter("requests", "Requests answered.", ("path", "status"))
        self.request_seconds = Histogram(
            "jaspertc_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("path",),
            registry=registry,
            buckets=SECONDS,
        )
        self.tokenize_seconds = histogram(
            "tokenize_seconds", "Time to tokenise a request, waiting for the tokeniser included.", SECONDS
        )
        self.queue_seconds = histogram(
            "queue_seconds", "Time from a request's acceptance to its first batch.", SECONDS
        )
        self.compute_seconds = histogram("compute_seconds", "Time of a batch on the device.", SECONDS)
        self.batch_fill = histogram("batch_fill", "Compressed tokens of a batch / its budget.", SHARES)
        self.batch_texts = histogram("batch_texts", "Texts of a batch.", COUNTS)
        self.ratio = histogram("compression_ratio", "Compression ratio used for a request.", SHARES)
        self.texts = counter("texts", "Texts embedded.")
        self.tokens = counter("tokens", "Tokens of accepted requests, before compression.")
        self.compressed_tokens = counter("compressed_tokens", "Tokens computed, after compression.")
        self.refused = counter("refused", "Requests refused because the server was busy.")
        self.adapted = counter(
            "adapted_requests", "Requests compressed more than asked, to keep the promise."
        )
        self.cancelled = counter("cancelled_requests", "Requests whose client left or whose time was up.")
        self.waiting = gauge("queue_requests", "Requests with texts that wait for the device.")
        self.backlog = gauge("queue_predicted_seconds", "Predicted time to compute everything that waits.")
        gauge("process_id", "The process that answers: each of several workers counts by itself.").set(
            os.getpid()
        )

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
