"""The websocket of the replay, as a plain client sees it."""

import asyncio
import json

import aiohttp
import pandas as pd
import pytest

from hissbt.feeds.replay import Clock, Faults

HOUR_MS = 3_600_000
TOPIC = "kline.60.BTCUSDT"
SUBSCRIBE = {"op": "subscribe", "req_id": "7", "args": [TOPIC]}


@pytest.fixture
def talk():
    """Run a conversation with a server's linear socket: ``talk(server, conversation)``."""

    def run(server, conversation):
        async def connected():
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(server.ws_url + "/v5/public/linear") as socket,
            ):
                return await asyncio.wait_for(conversation(socket), timeout=20)

        return asyncio.run(connected())

    return run


async def candle(socket):
    """Return the next candle that is pushed, and the message around it."""
    while True:
        message = await socket.receive_json()
        if "topic" in message:
            return message["data"][0], message


def test_each_candle_is_confirmed_once_with_its_final_values(replay, talk, hourly_bars):
    clock = Clock(hourly_bars.open_times[10], speed=0)
    server = replay(hourly_bars, clock=clock)

    async def conversation(socket):
        await socket.send_json(SUBSCRIBE)
        await candle(socket)
        clock.advance_to(hourly_bars.open_times[15])
        told = []
        while not told or told[-1]["start"] < int(hourly_bars.open_times[15].timestamp() * 1000):
            told.append((await candle(socket))[0])
        return [one for one in told if one["confirm"]]

    confirmed = talk(server, conversation)
    values = [[float(one[name]) for name in ("open", "high", "low", "close", "volume")] for one in confirmed]
    assert values == hourly_bars.frame.iloc[10:15].to_numpy().tolist()


def test_a_push_has_the_fields_that_bybit_documents(replay, talk, hourly_bars):
    now = hourly_bars.open_times[10]
    server = replay(hourly_bars, clock=Clock(now, speed=0))

    async def conversation(socket):
        await socket.send_json(SUBSCRIBE)
        return await candle(socket)

    one, message = talk(server, conversation)
    now_ms = int(now.timestamp() * 1000)
    assert {name: message[name] for name in ("topic", "type", "ts")} == {
        "topic": TOPIC,
        "type": "snapshot",
        "ts": now_ms,
    }
    first = float(one.pop("open"))
    assert first == hourly_bars.frame["open"].iloc[10]
    assert one == {
        "start": now_ms,
        "end": now_ms + HOUR_MS - 1,
        "interval": "60",
        "close": one["close"],
        "high": one["high"],
        "low": one["low"],
        "volume": "0",
        "turnover": "0",
        "confirm": False,
        "timestamp": now_ms,
    }
    assert {float(one[name]) for name in ("high", "low", "close")} == {first}


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ({"op": "ping", "req_id": "3"}, {"success": True, "ret_msg": "pong", "req_id": "3", "op": "ping"}),
        (SUBSCRIBE, {"success": True, "ret_msg": "", "req_id": "7", "op": "subscribe"}),
        ({"op": "unsubscribe", "args": [TOPIC]}, {"success": True, "ret_msg": ""}),
        ({"op": "subscribe", "args": ["kline.7.BTCUSDT"]}, {"success": False}),
        ({"op": "subscribe", "args": ["kline.60.NOPE"]}, {"success": False}),
        ({"op": "subscribe", "args": ["orderbook.1.BTCUSDT"]}, {"success": False}),
        ({"op": "dance"}, {"success": False}),
    ],
)
def test_commands_are_answered(replay, talk, hourly_bars, command, answer):
    async def conversation(socket):
        await socket.send_json(command)
        return await socket.receive_json()

    reply = talk(replay(hourly_bars), conversation)
    assert reply | answer == reply


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"subscribe"', '{"op": "subscribe", "args": [[1]]}'])
def test_nonsense_is_refused_and_the_talk_goes_on(replay, talk, hourly_bars, text):
    async def conversation(socket):
        await socket.send_str(text)
        refusal = await socket.receive_json()
        await socket.send_json({"op": "ping"})
        return refusal, await socket.receive_json()

    refusal, pong = talk(replay(hourly_bars), conversation)
    assert not refusal["success"]
    assert pong["ret_msg"] == "pong"


def test_a_dropped_socket_ends_and_another_can_be_made(replay, talk, hourly_bars):
    server = replay(hourly_bars)

    async def dropped(socket):
        await socket.send_json({"op": "ping"})
        await socket.receive_json()
        server.drop_sockets()
        return (await socket.receive()).type

    async def answered(socket):
        await socket.send_json({"op": "ping"})
        return await socket.receive_json()

    assert talk(server, dropped) in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
    assert talk(server, answered)["ret_msg"] == "pong"
    assert server.counts.faults["socket_dropped"] == 1


def test_a_silent_socket_says_nothing_even_to_a_ping(replay, talk, hourly_bars):
    clock = Clock(hourly_bars.open_times[10], speed=0)
    server = replay(hourly_bars, clock=clock)

    async def conversation(socket):
        await socket.send_json(SUBSCRIBE)
        await candle(socket)
        server.silence_sockets()
        clock.advance_to(hourly_bars.open_times[12])
        await socket.send_json({"op": "ping"})
        await socket.ping()
        server.drop_sockets()  # the next thing that is heard, if nothing was said before
        return await socket.receive()

    heard = talk(server, conversation)
    assert heard.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)


@pytest.mark.parametrize("kind", ["socket_dropped", "socket_silent", "socket_duplicate"])
def test_a_socket_may_break_before_it_confirms_or_confirm_twice(replay, talk, hourly_bars, kind):
    clock = Clock(hourly_bars.open_times[10], speed=0)
    server = replay(hourly_bars, clock=clock, faults=Faults(socket_rate=1, kinds=(kind,)))

    async def conversation(socket):
        await socket.send_json(SUBSCRIBE)
        await candle(socket)
        clock.advance_to(hourly_bars.open_times[11])
        if kind == "socket_silent":
            while not server.counts.faults[kind]:
                await asyncio.sleep(0)
            server.drop_sockets()
        return [message.json()["data"][0] async for message in _until_forming(socket)]

    async def _until_forming(socket):
        async for message in socket:
            if not message.json()["data"][0]["confirm"]:
                return
            yield message

    told = talk(server, conversation)
    assert server.counts.faults[kind] == 1
    assert len(told) == (2 if kind == "socket_duplicate" else 0)
    assert [one["start"] for one in told] == [int(hourly_bars.open_times[10].timestamp() * 1000)] * len(told)


def test_a_candle_that_is_revised_late_is_confirmed_when_it_is_final(replay, talk, hourly_bars):
    close = hourly_bars.frame.index[10]
    clock = Clock(close, speed=0)
    server = replay(hourly_bars, clock=clock, faults=Faults(rate=1, kinds=("revised",)))

    async def conversation(socket):
        await socket.send_json(SUBSCRIBE)
        forming, _ = await candle(socket)
        clock.advance_to(hourly_bars.frame.index[11])
        late, _ = await candle(socket)
        clock.advance_to(hourly_bars.frame.index[11] + pd.Timedelta(seconds=1))
        return forming, late, (await candle(socket))[0]

    forming, late, final = talk(server, conversation)
    assert [one["confirm"] for one in (forming, late, final)] == [False, False, True]
    assert len({one["start"] for one in (forming, late, final)}) == 1
    assert float(final["close"]) == hourly_bars.frame["close"].iloc[11] != float(late["close"])


def test_stopping_closes_open_sockets(replay, talk, hourly_bars):
    server = replay(hourly_bars)

    async def conversation(socket):
        await socket.send_json({"op": "ping"})
        await socket.receive_json()
        await asyncio.to_thread(server.stop)
        return (await socket.receive()).type

    assert talk(server, conversation) in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)


def test_messages_are_strict_json(replay, talk, hourly_bars):
    async def conversation(socket):
        await socket.send_json(SUBSCRIBE)
        return [(await socket.receive_str()) for _ in range(2)]

    for text in talk(replay(hourly_bars, clock=Clock(hourly_bars.open_times[10])), conversation):
        assert json.loads(text, parse_constant=lambda name: pytest.fail(name))
