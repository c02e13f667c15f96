"""Servers, workers and traffic for the demo, the tests and the measurements."""

from .exposition import Exposition
from .process import StackError, wait_until
from .records import Record
from .scene import Scene
from .session import Session
from .stack import ROOT, Stack, build_folder, close_shared, data_folder, shared
from .worker import Worker, binary, run_command

__all__ = ["ROOT", "Exposition", "Record", "Scene", "Session", "Stack", "StackError", "Worker", "binary", "build_folder",
    "close_shared", "data_folder", "run_command", "shared", "wait_until"]
