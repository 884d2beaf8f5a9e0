# SPDX-License-Identifier: Apache-2.0
"""What is shown of a request to a webhook: its path is a secret, for who knows it can post."""

from __future__ import annotations

import msgspec
import pytest
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from support.events import make_event


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example:8443/services/T000/B000/XyZ123", "https://hooks.example:8443/***"),
        ("https://hooks.example/{asset}?u=XyZ123", "https://hooks.example/***"),
        ("https://hooks.example", "https://hooks.example"),
    ],
)
def test_a_preview_shows_scheme_and_host_of_the_address_only(url: str, shown: str) -> None:
    found = WebhookOutput("chat", WebhookConfig(url=url, body={"text": "{summary}"})).preview(make_event())
    assert found["url"] == shown and "XyZ123" not in str(msgspec.to_builtins(found))
