"""The models of `implicit`: item neighbours, ALS and BPR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from asterism.data.sequences import Sequences
from asterism.evaluation.ranking import PADDING, in_history
from asterism.evaluation.recommender import Recommender
from peer_libraries.task import WIDTH, Lists, Task


@dataclass(frozen=True, slots=True)
class MatrixPeer:
    """A model of `implicit`; users are rows of a user-item matrix, so repeats and order are lost to it."""

    name: str
    model: Any
    items: int
    fold_in: Callable[[Any, sparse.csr_matrix], Any] | None = None  # where the model knows only training users

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> Lists:
        """See `Recommender.recommend`."""
        liked = user_items(histories, self.items)
        users = np.arange(len(histories))
        model, recalculate = self.model, True
        if self.fold_in is not None:
            model, recalculate = self.fold_in(self.model, liked), False
        found, scores = model.recommend(
            users, liked, N=k, filter_already_liked_items=exclude_history, recalculate_user=recalculate
        )
        missing = scores < -1e30
        if exclude_history:  # short of candidates, the library fills up with the history at score 0
            missing |= in_history(found, histories, self.items)
        return padded(np.where(missing, PADDING, found), k)


def padded(lists: NDArray[np.integer], k: int) -> Lists:
    """(rows, k) with what is missing as padding at the end."""
    order = np.argsort(lists == PADDING, axis=1, kind="stable")
    out = np.full((len(lists), k), PADDING, dtype=np.int64)
    out[:, : lists.shape[1]] = np.take_along_axis(lists, order, axis=1)
    return out


def user_items(histories: Sequences, items: int) -> sparse.csr_matrix:
    """(rows, items) one where the item is in the history."""
    shape = (len(histories), items)
    ones = np.ones(histories.events, dtype=np.float32)
    parts = (ones, histories.items, histories.offsets.astype(np.int32))
    matrix = sparse.csr_matrix(parts, shape=shape, copy=True)  # what follows sorts in place
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def fit_neighbours(kind: str) -> Callable[[Task], Recommender]:
    """`implicit`'s item neighbours by `CosineRecommender` or `BM25Recommender`."""

    def fit(task: Task) -> Recommender:
        from implicit import nearest_neighbours

        model = getattr(nearest_neighbours, kind)(K=100, num_threads=task.threads)
        model.fit(user_items(task.split.train, len(task.split.items)), show_progress=False)
        return MatrixPeer(kind, model, len(task.split.items))

    return fit


def fit_als(task: Task) -> Recommender:
    """Implicit alternating least squares (Hu et al. 2008); a history's factors are solved for when it is asked."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=WIDTH, random_state=task.seed, num_threads=task.threads)
    model.fit(user_items(task.split.train, len(task.split.items)), show_progress=False)
    return MatrixPeer("als", model, len(task.split.items))


def fit_bpr(task: Task) -> Recommender:
    """Bayesian personalised ranking (Rendle et al. 2009); the library's 100 iterations at 0.01 end far too early."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    learning = {"learning_rate": 0.05, "iterations": 300, "random_state": task.seed, "num_threads": task.threads}
    model = BayesianPersonalizedRanking(factors=WIDTH, **learning)
    model.fit(user_items(task.split.train, len(task.split.items)), show_progress=False)
    return MatrixPeer("bpr", model, len(task.split.items), fold_in=mean_of_items)


def mean_of_items(model: Any, liked: sparse.csr_matrix) -> Any:
    """The library's BPR knows training users only: a history is the mean of its items, as long as a user is."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    users = np.asarray(liked @ model.item_factors, dtype=np.float32)
    users[:, -1] = 0.0  # the column that carries the items' biases
    usual = np.linalg.norm(model.user_factors[:, :-1], axis=1).mean()
    users *= usual / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-12)
    users[:, -1] = 1.0
    folded = BayesianPersonalizedRanking(factors=WIDTH, num_threads=model.num_threads)
    folded.item_factors, folded.user_factors = model.item_factors, users
    return folded
