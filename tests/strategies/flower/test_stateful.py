"""Every strategy answers for its state: ours and users' themselves, Flower's through an adapter."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedXgbBagging

from flwr_robustcomp import Decompressed, OldStrategy, to_arrays
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.flower.stateful import check_state, stateful
from flwr_robustcomp.strategies.nodes.history import LEDGER_RECORD
from tests.strategies.rounds import MODEL, SAMPLING, answers, updates


def _after_a_round() -> Decompressed:
    strategy = Decompressed(FedAdam(**SAMPLING), compressor=L1Sign())
    strategy.current_arrays = to_arrays(MODEL)
    strategy.aggregate_train(1, answers(strategy, updates(4), L1Sign()))
    return strategy


def test_a_wrapper_has_the_records_of_the_strategy_inside_and_the_ledger() -> None:
    strategy, other = _after_a_round(), Decompressed(FedAdam(**SAMPLING), compressor=L1Sign())
    state = strategy.state()
    assert set(state) == {"m_t", "v_t", LEDGER_RECORD}
    other.check_state(state, to_arrays(MODEL))
    other.restore(state)
    assert all(np.array_equal(other.m_t[name], array) for name, array in strategy.m_t.items())
    assert OldStrategy(strategy).state() == state  # another wrapper passes the question on


def test_a_wrapper_refuses_a_state_without_the_ledger() -> None:
    state = _after_a_round().state()
    del state[LEDGER_RECORD]
    with pytest.raises(ConfigurationError, match=r"robustcomp\.ledger must be a ConfigRecord, got NoneType"):
        Decompressed(FedAdam(**SAMPLING), compressor=L1Sign()).restore(state)


def test_a_wrapper_refuses_a_state_of_another_model() -> None:
    strategy = _after_a_round()
    with pytest.raises(ConfigurationError, match="arrays of 'm_t' must be named"):
        strategy.check_state(strategy.state(), ArrayRecord())


def test_a_strategy_of_ones_own_answers_itself() -> None:
    class Mine(FedAvgM):
        def state(self) -> RecordDict:
            return RecordDict({"mine": ArrayRecord()})

        def restore(self, state: RecordDict) -> None:
            raise ConfigurationError("asked")

    mine = Mine()
    assert stateful(mine) is mine
    check_state(mine, RecordDict(), to_arrays(MODEL))  # it need not check
    with pytest.raises(ConfigurationError, match="asked"):
        Decompressed(mine, compressor=L1Sign()).restore(RecordDict())


def test_a_strategy_whose_state_nobody_knows_is_refused() -> None:
    assert set(stateful(FedAvg()).state()) == set()
    with pytest.raises(ConfigurationError, match=r"strategy must be one with state\(\) and restore\(\), or a descendant of"):
        stateful(FedXgbBagging()).state()
