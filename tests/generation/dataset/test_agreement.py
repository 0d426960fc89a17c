from fcdistill.generation.dataset.agreement import ToolAgreement

KNOWN = [
    *[
        (f"play {name} at volume {volume}", "play_music")
        for name, volume in zip("abcdef", range(10, 70, 10), strict=True)
    ],
    *[(f"dim the light in the {room} to {n} percent", "set_light") for n, room in enumerate("ghijkl", 10)],
]


def test_a_tool_that_known_requests_speak_against_is_doubted() -> None:
    agreement = ToolAgreement(KNOWN)
    assert (
        agreement.problem("jazz at volume 60", ["set_light"])
        == "known requests like this one call play_music, not set_light"
    )
    assert agreement.problem("jazz at volume 60", ["play_music"]) == ""


def test_words_that_nobody_knows_say_nothing() -> None:
    assert ToolAgreement(KNOWN).problem("xylophone", ["set_light"]) == ""


def test_both_tools_of_a_request_for_two_are_likely() -> None:
    text = "dim the light and play jazz at volume 60"
    assert ToolAgreement(KNOWN).problem(text, ["set_light", "play_music"]) == ""
    more = [*KNOWN, *[(f"weather in {city} tomorrow", "get_weather") for city in "mnopqr"]]
    assert "not get_weather" in ToolAgreement(more).problem(text, ["set_light", "get_weather"])


def test_a_rarely_seen_tool_is_never_doubted() -> None:
    rare = [*KNOWN, ("open the door", "lock_door")]
    assert ToolAgreement(rare).problem("jazz at volume 60", ["lock_door"]) == ""
    assert ToolAgreement(KNOWN).problem("jazz at volume 60", ["lock_door"]) == ""
    assert ToolAgreement([]).problem("jazz", ["play_music"]) == ""
