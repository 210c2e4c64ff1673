"""Backends: torch on a GPU or without a graph, OpenVINO on a processor."""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poreseg.devices import gpus, has_apple_gpu
from poreseg.errors import PoresegError
from poreseg.learning.card import GRAPH, read_card, read_looks
from poreseg.learning.sliding import Predictor

# else its import sends telemetry over the network, from a process forked in a thread
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402


class Graph:
    """A model folder's ONNX graph on the processor.

    OpenVINO uses bf16 where the processor has it, computes 1.6 to 2 times as many pixels
    per second as torch (benchmarks/prediction.py), and loads in half a second.
    """

    def __init__(self, folder: Path | str, threads: int) -> None:
        self.card, self.seen = read_card(folder), read_looks(folder)
        self._threads = threads
        try:
            self._graph = openvino.Core().read_model(Path(folder) / GRAPH)
        except RuntimeError as error:
            raise PoresegError(
                f"{folder}: {GRAPH} cannot be read ({error}); train it again"
            ) from None
        # windows, transposed windows, those of looks, and of polarity
        self._for = lru_cache(maxsize=4)(self._compiled)

    def probabilities(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pore probabilities (N, H, W) of windows (N, H, W, 3); H and W are multiples of 32."""
        found: NDArray[np.float32] = self._for("probabilities", windows.shape)(windows)[0]
        return found.copy()  # the next call writes over it

    def moments(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Model.moments`; fp32, as variance is a difference."""
        found: NDArray[np.float32] = self._for("moments", windows.shape, "f32")(windows)[0]
        return found.copy()

    def _compiled(self, output: str, shape: tuple[int, ...], precision: str | None = None) -> Any:
        """The graph of one output, compiled for one window shape in 0.3 s: a tenth faster than for any."""
        graph = self._graph.clone()
        graph = openvino.Model([graph.output(output)], graph.get_parameters())
        graph.reshape(list(shape))
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self._threads}
        settings |= {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        return openvino.Core().compile_model(graph, "CPU", settings)


def load(folder: Path | str, threads: int) -> Predictor:
    """A model folder, loaded on this machine's best device; `threads` are the processor's.

    Raises
    ------
    PoresegError
        Not a model folder, or a damaged one.
    """
    has_graph = (Path(folder) / GRAPH).is_file()
    if gpus() or has_apple_gpu() or not has_graph:
        import torch  # takes seconds; OpenVINO does without

        from poreseg.learning.model import device_of_choice, load_model

        device = device_of_choice()
        if device.type != "cpu" or not has_graph:
            torch.set_num_threads(threads)
            return load_model(folder, device)
    return Graph(folder, threads)
