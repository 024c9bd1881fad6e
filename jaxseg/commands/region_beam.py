"""Region maps by an Apache Beam pipeline, for a cluster; needs the extra `beam`.

The folders of images and maps have to be reachable under the same path from every worker, as on a
network disk; and jaxseg has to be installed there.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from jaxseg.boundaries.detectors import Detect
from jaxseg.commands.region_map import Outcome, Settings, make_map
from jaxseg.core import UserError
from jaxseg.writer import write_atomic


class MakeMap(beam.DoFn):
    """Makes the map of each image, and yields the outcomes that are failures."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._detect: Detect | None = None

    def setup(self) -> None:
        """Opens the detector, once a worker: what is in it need not be sent."""
        self._detect = self._settings.detector()

    def process(self, name: str) -> Iterator[Outcome]:
        """Yields the outcome, where the image has no map."""
        assert self._detect is not None
        outcome = make_map(self._settings, self._detect, name)
        if outcome.failure:
            yield outcome


def make_maps(
    settings: Settings, names: Sequence[str], failures: pathlib.Path, options: Sequence[str]
) -> list[Outcome]:
    """Makes the maps of images; returns those that failed, which are also written to a file.

    Args:
        settings: of the maps; names: the images.
        failures: a JSON file below the folder of maps.
        options: Beam's, such as "--runner=DirectRunner".

    Raises:
        UserError: Beam does not take the options, as for a runner that it does not know.
    """
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
    except ValueError as error:
        raise UserError(
            f"Apache Beam does not take {' '.join(options)}: {error}. See --runner-options"
        ) from error
    with pipeline:
        _ = (
            pipeline
            | beam.Create(list(names))
            | beam.Reshuffle()  # or one worker would get them all
            | beam.ParDo(MakeMap(settings))
            | beam.combiners.ToList()
            | beam.Map(_write, str(failures))
        )
    return [Outcome(*row) for row in json.loads(failures.read_text())]


def _write(failed: list[Any], path: str) -> None:
    write_atomic(path, json.dumps(sorted(failed)))
