"""Run by a test in a process of its own, to be killed in the middle."""

import sys

from writer import documents

from deepmemory.synthesis import FilterOptions, OpenAIChat, synthesize

address, journal = sys.argv[1:]
llm = OpenAIChat("chat-test", base_url=address, api_key="any")
made = synthesize(documents(), llm, journal=journal, concurrency=2, filters=FilterOptions(near_duplicate=None))
print(len(made.queries))
