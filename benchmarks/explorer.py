"""How long the explorer takes for its first counterfactuals: by the clock, and of the processor.

    python benchmarks/explorer.py [--threads 2] [--answers 5]

    loading    the generator of 64 x 64 and its predictor, as `synthfair app` does before it prints its address
    answer k   an image is drawn, its counterfactual made, attributes of both predicted, and the HTML rendered

The first answer is what somebody waits for; seconds of the processor count every thread, and other work on the machine
does not count towards them.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from synthfair_hf.diffusion.loaded import LoadedGenerator
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.measure.predictors import predict_images
from synthfair_hf.publish.explorer.counterfactual import answer

Result = TypeVar("Result")


def timed(name: str, work: Callable[[], Result]) -> Result:
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    print(f"{name:10} {time.perf_counter() - clock:6.2f} s, {time.process_time() - processor:6.2f} s of the processor")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--answers", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    saved = find_generator(DEFAULT_GENERATOR.with_name("chest_xray_64"))
    predictor = DEFAULT_GENERATOR.with_name("chest_xray_predictor")
    generator = timed("loading", lambda: LoadedGenerator(saved))
    predict = predict_images(predictor, saved.preset.covariates, saved.resolution)
    known = {"age": 61, "sex": "male", "finding": "no_finding", "view": "PA", "scanner": None}
    print(f"generator {saved.revision}, {saved.resolution} x {saved.resolution}, {given.threads} threads")
    do = {"finding": "pneumonia"}
    for number in range(given.answers):
        timed(f"answer {number + 1}", lambda seed=number: answer(generator, predict, None, known, do, seed))


if __name__ == "__main__":
    main()
