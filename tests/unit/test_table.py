"""The table of what passes where says what a run's results say."""

from __future__ import annotations

from tests.acceptance.table import markdown, read

RUN = """<testsuites><testsuite>
<testcase classname="tests.acceptance.test_main" name="test_it_works[sqlite]"/>
<testcase classname="tests.acceptance.test_main" name="test_it_works[postgres]"/>
<testcase classname="tests.acceptance.test_main" name="test_it_works[postgres+redis]"><failure message="no"/></testcase>
<testcase classname="tests.acceptance.test_main" name="test_it_works[postgres+sqs]"><skipped message="no"/></testcase>
<testcase classname="tests.acceptance.test_faults" name="test_a_disk_fails[sqlite-full]">
<properties><property name="only_on" value="there is no disk"/></properties></testcase>
<testcase classname="tests.acceptance.test_faults" name="test_a_disk_fails[gone-sqlite]">
<properties><property name="only_on" value="there is no disk"/></properties></testcase>
<testcase classname="tests.acceptance.test_commands" name="test_help"/>
</testsuite></testsuites>"""


def test_each_place_has_its_column_and_each_reason_its_note() -> None:
    page = markdown(read(RUN)).splitlines()
    assert "| **passed** | **3** | **1** | **0** | **0** |" in page
    assert "| it works | 1 | 1 | 1 failed | 1 skipped |" in page
    assert "| a disk fails | 2 | (1) | (1) | (1) |" in page
    assert page[-1] == "1. There is no disk."
    assert not any("help" in line for line in page)
