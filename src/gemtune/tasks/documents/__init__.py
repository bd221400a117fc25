"""documents: pages of documents become JSON: their content, what they are, or what the user's own schema asks for."""

from gemtune.tasks.documents.page_tasks import PageTask, page_tasks

__all__ = ["PageTask", "page_tasks"]
