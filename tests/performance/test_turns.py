from bench.turns import Measure, Rate, in_turns


async def test_each_has_its_turn_and_is_judged_by_its_best_one() -> None:
    order: list[str] = []
    speeds = {"hive": [3.0, 9.0, 5.0], "ceiling": [20.0, 10.0, 15.0]}

    def measure(name: str) -> Measure:
        async def one(turn: int) -> Rate:
            order.append(name)
            return Rate(speeds[name][turn], p50_ms=turn, p99_ms=turn, cpu_us=turn)

        return one

    rates = await in_turns({name: measure(name) for name in speeds}, turns=3)

    assert order == ["hive", "ceiling"] * 3
    assert rates == {"hive": Rate(9.0, 1, 1, 1), "ceiling": Rate(20.0, 0, 0, 0)}
