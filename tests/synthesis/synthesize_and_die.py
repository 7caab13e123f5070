"""Run by a test in a process of its own, to be killed in the middle."""

import sys

from writer import documents

from deepmemory.llm import OpenAIChat
from deepmemory.synthesis import FilterOptions, synthesize

address, journal, key = sys.argv[1:]
llm = OpenAIChat("chat-test", base_url=address, api_key=key)
made = synthesize(documents(), llm, journal=journal, concurrency=2, filters=FilterOptions(near_duplicate=None))
print(len(made.queries))
