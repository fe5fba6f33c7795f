"""`S3TarDataset`: samples out of tar shards."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from s3torch.client import S3BucketKeyData, S3ClientConfig, UserAgent
from s3torch.datasets._meter import Session
from s3torch.datasets._objects import index_objects, objects_by_uri, objects_under_prefix
from s3torch.datasets._on_error import SKIPPED, OnError, check_on_error, decide
from s3torch.datasets._order import EpochOrder, check_epoch, check_seed
from s3torch.datasets._sharding import (
    ProcessGroup,
    Shard,
    check_group,
    current_consumer,
    current_process_group,
    shard_of,
)
from s3torch.datasets._share import Uneven, check_uneven
from s3torch.datasets._store_dataset import StoreDataset
from s3torch.datasets.index import S3Index
from s3torch.datasets.tar._braces import expand_braces
from s3torch.datasets.tar._plan import TarPlan
from s3torch.datasets.tar._reading import BlockRule
from s3torch.datasets.tar._run import Limits, TarRun
from s3torch.datasets.tar._samples import RawSample
from s3torch.datasets.tar._state import Base, TarState, merge
from s3torch.datasets.tar.options import TarOptions
from s3torch.readers import ReaderClient

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["S3TarDataset"]

_KIB = 1024
_LEAST_PART = 256 * _KIB
_MOST_PARTS = 64  # of half a MiB to 8 MiB each: more would be no faster
_NOBODY = -1


class S3TarDataset(StoreDataset, IterableDataset[Any]):
    """A dataset of the samples in tar shards that are laid out by WebDataset's convention.

    Members that follow each other and have one path up to the first dot of the name are a sample: a dict of
    ``__key__`` (that path), ``__url__`` (the shard) and the members' bytes, by what follows the dot, in lower case.
    Members without a dot, hidden files, links, folders and descriptions of the archive (``__name__``) are left out.

    Shards are read in parts by range, the next ones while this one is consumed, ``s3client_config.window_bytes`` bytes
    ahead at most. Each shard goes to one ``DataLoader`` worker of one rank, as they are when iteration begins.

    Args:
        shards: The shards, in order. `from_prefix`, `from_objects` and `from_index` supply them.
        region: Region of the objects, such as ``us-east-1``; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes the environment's or Amazon's.
        transform: Is given a sample's dict and returns the sample; None gives the dict itself.
        s3client_config: Options of the client.
        shuffle: Visit the shards in an order of each epoch's own, and mix their samples.
        seed: Which sequence of orders.
        shuffle_buffer: Samples held to be mixed, over all shards that are read at a time, and half of ``window_bytes``
            at most. The state of a shuffled dataset stays small: samples are mixed in blocks of one shard.
        shuffle_shards: Shards that are read, and mixed, at a time.
        uneven: What to do with shards that cannot be shared out evenly: ``"keep"`` gives some consumers one more,
            ``"drop"`` leaves them out, ``"pad"`` gives the others some of the epoch's first ones again. How many
            samples that makes depends on the shards; see ``samples`` for equal numbers of samples.
        samples: Samples in an epoch, over all consumers: each gives exactly its share, and begins the epoch's shards
            again or leaves some out. For jobs whose ranks must step alike. None gives each sample once.
        on_error: What to do about a sample whose transform failed, or a shard that cannot be read: ``"raise"``;
            ``"skip"`` leaves out the sample, or the shard's rest, and counts it; or a function that is given the shard
            and the error, and returns ``"skip"`` or, for a transform that failed, a sample instead, or raises.
        progress: Show a bar of progress.
        shard: This process's rank and the number of ranks, where torch's process group does not tell.
        views: Give members as `memoryview`, without a copy; each keeps the whole part that it lies in, of at most
            ``part_size`` bytes, in memory. By default they are `bytes`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There are no shards, or an argument is out of its range.
    """

    def __init__(
        self,
        shards: Iterable[S3BucketKeyData],
        *,
        region: str | None = None,
        endpoint: str | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        s3client_config: S3ClientConfig | None = None,
        shuffle: bool = False,
        seed: int = 0,
        shuffle_buffer: int = 1000,
        shuffle_shards: int = 4,
        uneven: Uneven = "keep",
        samples: int | None = None,
        on_error: OnError = "raise",
        progress: bool = False,
        shard: tuple[int, int] | None = None,
        views: bool = False,
    ) -> None:
        check_seed(seed)
        for name, value in (("shuffle_buffer", shuffle_buffer), ("shuffle_shards", shuffle_shards)):
            _check_count(name, value)
        if samples is not None:
            _check_count("samples", samples)
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be callable, got {type(transform).__name__}")
        check_uneven(uneven)
        check_on_error(on_error)
        super().__init__(_make_client(region, endpoint, s3client_config), progress=progress)
        self._shards = shards if isinstance(shards, S3Index) else S3Index.from_items(shards)
        if not len(self._shards):
            raise ValueError("a dataset of tar shards needs at least one shard")
        self._transform = transform
        self._seed = seed if shuffle else None
        self._buffer = shuffle_buffer if shuffle else 1
        self._mixed = shuffle_shards if shuffle else 1
        self._uneven = uneven
        self._quota = samples
        self._on_error = on_error
        self._group = None if shard is None else check_group(shard)
        self._views = bool(views)
        self._parents: ProcessGroup | None = None
        # The epoch, which workers went on from the state that was loaded, how many there are: for all of them.
        self._shared = torch.tensor([0, _NOBODY, 0], dtype=torch.int64).share_memory_()
        self._loaded: TarState | None = None
        self._is_own = False  # whether this worker was told to load it
        self._once: int | None = None  # the epoch of this worker's next iteration
        self._run: TarRun | None = None
        self._run_pid = 0
        self._session: Session | None = None

    @classmethod
    def from_prefix(
        cls,
        s3_uri: str,
        *,
        suffix: str = ".tar",
        **options: Unpack[TarOptions],
    ) -> Self:
        """Make a dataset of all tar shards whose keys begin with a prefix, in key order; they are listed now.

        Args:
            s3_uri: ``s3://bucket/prefix``.
            suffix: How the keys of shards end; other objects are left out.
            **options: The arguments of the constructor.

        Returns:
            The dataset.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The URI is malformed, or there are no shards under it.
        """
        client = _make_client(options.get("region"), options.get("endpoint"), options.get("s3client_config"))
        found = index_objects(client, objects_under_prefix(s3_uri))
        shards = found.where(suffix=suffix)
        if not len(shards):
            others = (
                f"; of {len(found)} objects there none ends in {suffix!r}" if len(found) else ", nor any other object"
            )
            raise ValueError(f"there are no tar shards under {s3_uri}{others}")
        return cls(shards, **options)

    @classmethod
    def from_objects(cls, object_uris: str | Iterable[str], **options: Unpack[TarOptions]) -> Self:
        """Make a dataset of the shards named, in the order given; sends no request.

        Args:
            object_uris: One ``s3://bucket/key`` or any number of them. Braces stand for several names, as in
                ``s3://bucket/train-{000..127}.tar``, and are read as braces also where keys contain them.
            **options: The arguments of the constructor.

        Returns:
            The dataset.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A URI is malformed or has no key, or braces do not match.
        """
        uris = (object_uris,) if isinstance(object_uris, str) else object_uris
        names = (name for uri in uris for name in _names(uri))
        # No request is sent for names, whoever the client is.
        return cls(objects_by_uri(names)(ReaderClient()), **options)

    @classmethod
    def from_index(cls, index: Iterable[S3BucketKeyData], **options: Unpack[TarOptions]) -> Self:
        """Make a dataset of the shards of an index, in its order.

        Args:
            index: The shards, such as an `S3Index`.
            **options: The arguments of the constructor.

        Returns:
            The dataset.
        """
        return cls(index, **options)

    @property
    def index(self) -> S3Index:
        """The shards, in the plain order."""
        return self._shards

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration."""
        return int(self._shared[0])

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iterations; workers that live on learn of it, too.

        A worker that is told chooses for itself, and for its next iteration only.

        Args:
            epoch: From 0. A state that was loaded is kept if it is of this epoch, and dropped if not.

        Raises:
            ValueError: It is no such number.
        """
        check_epoch(epoch)
        if self._run is not None and self._run.epoch != epoch:
            self._run = None
        if self._loaded is not None and self._loaded.epoch != epoch:
            self._loaded = None
        if get_worker_info() is None:
            self._shared[0] = epoch
        else:
            self._once = epoch  # what one worker is told is not for the others

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator of samples; the shard is decided here, nothing is requested before the first sample."""
        run, replayed = self._begin()
        self._run, self._run_pid = run, os.getpid()
        return self._give(run, replayed)

    def state_dict(self) -> dict[str, Any]:
        """Return how far the iteration in this process has come: what it has given is consumed.

        Returns:
            Numbers and strings: some 300 bytes, and 20 to 40 for each shard that is being read. A state is of one
            consumer: one worker of one rank, or a process without workers. `s3torch.datasets.merge_states` makes one of
            them all.

        Raises:
            RuntimeError: The workers of a ``DataLoader`` iterate it, and not this process.
        """
        if self._run is not None and self._run_pid == os.getpid():
            return self._run.state().to_dict()
        if get_worker_info() is None and int(self._shared[2]):
            raise RuntimeError(
                "the workers of a DataLoader iterate this dataset, and only they know how far they have come: use"
                " torchdata's StatefulDataLoader, and its state_dict()"
            )
        return (self._loaded or self._fresh(self.epoch)).to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on, in the next iteration, after what a state says is consumed.

        Args:
            state_dict: A consumer's own state goes on with as many ranks and workers as before, sample for sample in
                the same order. What `merge_states` has made of all consumers' states goes on with any number. The state
                of one rank, loaded by another one (as Lightning does), stands for it if all ranks have stepped alike:
                what was consumed is then read again, up to the same number of samples.

        Raises:
            TypeError: It is no dict.
            ValueError: It is the state of something else, or of another dataset, seed or order.
        """
        state = TarState.from_dict(state_dict)
        if (state.shards, state.fingerprint) != (len(self._shards), self._shards.fingerprint):
            changed = (
                f"it had {state.shards} shards, this one has {len(self._shards)}"
                if state.shards != len(self._shards)
                else "the names, sizes or ETags of the shards have changed"
            )
            prints = f"fingerprint {state.fingerprint}, now {self._shards.fingerprint}"
            raise ValueError(f"the state is of another dataset: {changed} ({prints})")
        if state.seed != self._seed:
            raise ValueError(f"the state is of another order: seed {state.seed}, now {self._seed} (None: no shuffle)")
        self._loaded, self._run = state, None
        self._is_own = get_worker_info() is not None
        if self._is_own:
            self._once = state.epoch
        else:
            self._shared[:] = torch.tensor([state.epoch, _NOBODY, 0])

    def _begin(self) -> tuple[TarRun, int]:
        """Decide what this process reads, and how many samples it only reads past."""
        epoch, self._once = self.epoch if self._once is None else self._once, None
        shard = self._current_shard()
        state, replayed = self._resume(epoch, shard)
        order = EpochOrder(len(self._shards), self._seed, epoch)
        plan = TarPlan(order, state.base, shard, self._uneven, is_endless=self._quota is not None)
        if not plan.turns and self._quota is None and self._uneven == "drop" and state.base == Base():
            raise ValueError(
                f"{len(self._shards)} shards cannot be shared out evenly among {shard.count} consumers (workers of all"
                " ranks): take fewer workers, or uneven='pad', or say how many samples an epoch has"
            )
        config = self._client.s3client_config
        # What is shuffled is held once more: each gets half of the window.
        window_bytes = config.window_bytes if self._seed is None else max(1, config.window_bytes // 2)
        limits = Limits(
            part_size=min(config.part_size, max(_LEAST_PART, window_bytes // 8)),
            window=min(_MOST_PARTS, config.window or _MOST_PARTS),
            window_bytes=window_bytes,
            shards=self._mixed,
        )
        rule = BlockRule(self._seed, epoch, -(-self._buffer // self._mixed), -(-window_bytes // self._mixed))
        run = TarRun(
            self._client.engine,
            self._shards,
            plan,
            state,
            rule,
            limits,
            quota=None if self._quota is None else max(0, self._quota - state.base.samples) // shard.count,
            on_shard_error=self._decide,
        )
        return run, replayed

    def _current_shard(self) -> Shard:
        one = current_consumer(sharded=True, explicit=self._group, parents=self._parents, environment=True)
        return shard_of(one.group, one.share, one.shares)

    def _resume(self, epoch: int, shard: Shard) -> tuple[TarState, int]:
        """Take the state that was loaded, if it is for this iteration."""
        loaded, self._loaded = self._loaded, None
        fresh = self._fresh(epoch, shard)
        worker = get_worker_info()
        if worker is not None:
            self._shared[2] = worker.num_workers
        if loaded is None or loaded.epoch != epoch:
            return fresh, 0
        if worker is not None and not self._is_own:
            # Copies of this dataset go to the workers of every epoch. Those of one epoch have a seed in common.
            seed = worker.seed - worker.id
            if int(self._shared[1]) not in (_NOBODY, seed):
                return fresh, 0
            self._shared[1] = seed
        if loaded.shard == shard:
            return loaded, 0
        if loaded.shard.count == 1:
            loaded = merge([loaded])
            return self._fresh(epoch, shard, loaded.base), 0
        if loaded.shard.count == shard.count:
            return self._fresh(epoch, shard, loaded.base), loaded.samples
        raise ValueError(
            f"the state is of one of {loaded.shard.count} consumers (workers of all ranks), and now there are"
            f" {shard.count}: s3torch.datasets.merge_states makes one state of those of all of them"
        )

    def _fresh(self, epoch: int, shard: Shard | None = None, base: Base | None = None) -> TarState:
        return TarState(
            epoch,
            self._seed,
            self._shards.fingerprint,
            len(self._shards),
            base or Base(),
            shard or self._current_shard(),
        )

    def _give(self, run: TarRun, replayed: int) -> Generator[Any, None, None]:
        with closing(run), closing(self._meter.begin(self._client.engine)) as session:
            self._session = session
            session.window = run.window
            for _ in range(replayed):
                if run.next_sample() is None:
                    return
            while (found := run.next_sample()) is not None:
                item, raw = found
                try:
                    sample = self._make(item, raw)
                except BaseException:
                    run.take_back()  # who goes on from here meets it again
                    raise
                del found, raw  # who holds a sample holds memory
                if sample is SKIPPED:
                    run.skip()
                    continue
                session.made()
                yield sample
                del sample

    def _make(self, item: S3BucketKeyData, raw: RawSample) -> Any:
        """Make what the user gets of a sample; `SKIPPED` where that fails and is to be passed over."""
        make: Callable[[Any], Any] = memoryview if self._views else bytes
        sample: dict[str, Any] = {"__key__": raw.key, "__url__": f"s3://{item.bucket}/{item.key}"}
        sample.update((name, make(data)) for name, data in raw.fields.items())
        if self._transform is None:
            return sample
        try:
            return self._transform(sample)
        except Exception as error:  # noqa: BLE001  # whatever the transform raises is the sample's
            if hasattr(error, "add_note"):  # Python 3.11 and later
                error.add_note(f"in sample {raw.key!r}")
            return self._decide(item, error)

    def _decide(self, item: S3BucketKeyData, error: Exception) -> Any:
        outcome = decide(self._on_error, item, error)
        if outcome is SKIPPED and self._session is not None:
            self._session.skipped(item, error)
        return outcome

    def _detached(self) -> Self:
        """Return a copy whose epochs and states are its own: workers of a mixture go through different ones."""
        twin = copy.copy(self)
        twin.__dict__.update(_shared=self._shared.clone(), _loaded=None, _run=None)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as configuration, with this process's rank: a worker that is no fork cannot ask for it."""
        mine = {"_run": None, "_session": None, "_is_own": False, "_once": None}
        return {**self.__dict__, **mine, "_parents": current_process_group() or self._parents}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self._shared.is_shared():  # a plain pickle has made it of bytes
            self._shared.share_memory_()


def _make_client(region: str | None, endpoint: str | None, s3client_config: S3ClientConfig | None) -> ReaderClient:
    agent = UserAgent(["md/dataset#tar"])
    return ReaderClient(region, endpoint=endpoint, user_agent=agent, s3client_config=s3client_config)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _names(uri: Any) -> Iterable[Any]:
    """Write out braces; what is no string is left to whoever reads URIs to refuse."""
    return expand_braces(uri) if isinstance(uri, str) else (uri,)
