"""One's own net on one's own picture, forward and backward, with the numbers put into the equations: a page."""

from xcnn.explainer.explanation import Explanation, check_page_path, explain

__all__ = ["Explanation", "check_page_path", "explain"]
