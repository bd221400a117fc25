"""A large model that labels pages: asked by one loop, whichever it is, and paid for once."""

from gemtune.documents.teacher.asking import Forecast, ask, forecast
from gemtune.documents.teacher.exchange import Answer, Local, Reply, Request, Usage
from gemtune.documents.teacher.failures import TeacherError
from gemtune.documents.teacher.ledger import Ledger
from gemtune.documents.teacher.pacing import Patience

__all__ = [
    "Answer",
    "Forecast",
    "Ledger",
    "Local",
    "Patience",
    "Reply",
    "Request",
    "TeacherError",
    "Usage",
    "ask",
    "forecast",
]
