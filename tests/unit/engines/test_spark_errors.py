"""What Spark says at length comes out as one clause."""

from __future__ import annotations

import pytest

from maggy.engines.spark_errors import explain, was_lost

IN_PYTHON = """An error occurred while calling o77.collect.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 4.0 failed \
1 times, most recent failure: Lost task 0.0 in stage 4.0 (TID 4) (localhost executor driver): \
org.apache.spark.api.python.PythonException: [PYTHON_EXCEPTION] An exception was thrown from the \
Python worker: Traceback (most recent call last):
  File "/spark/pyspark.zip/pyspark/worker.py", line 4327, in invoke_udf
    run_process()
  File "/tmp/maggy-0/fakeagent.py", line 6, in serve
    raise ConnectionError("the driver cannot be reached.")
ConnectionError: the driver at 10.1.2.3:55 cannot be reached: timed out.
 SQLSTATE: 38000
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handle(PythonRunner.scala:1097)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""
KILLED = """An error occurred while calling o77.collect.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 \
times, most recent failure: Lost task 0.0 in stage 1.0 (TID 1) (localhost executor driver): \
org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider setting \
'spark.sql.execution.pyspark.udf.faulthandler.enabled' to 'true' for the better traceback.
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.apply(PythonRunner.scala:1136)
Caused by: java.io.EOFException
\t... 22 more
"""
TWO_LINES = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
pyspark.errors.exceptions.base.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in worker
has different version: 3.12 than that in driver: 3.11.
"""


class JavaError(Exception):
    """As py4j raises it: with the JVM's exception beside the text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.java_exception = self
        self._text = text.partition("\n: ")[2]

    def toString(self) -> str:  # noqa: N802 - as in Java
        return self._text


@pytest.mark.parametrize(
    ("error", "clause", "lost"),
    [
        (
            JavaError(IN_PYTHON),
            "ConnectionError: the driver at 10.1.2.3:55 cannot be reached: timed out",
            False,
        ),
        (JavaError(KILLED), "Python worker exited unexpectedly (crashed)", True),
        (
            RuntimeError(TWO_LINES),
            "[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.12 than that in "
            "driver: 3.11",
            False,
        ),
        (OSError("no route"), "no route", False),
        (ValueError("x" * 600), "x" * 500 + " ...", False),
    ],
)
def test_the_one_thing_to_know(error: Exception, clause: str, lost: bool) -> None:
    """An exception of Python's by its last line, anything else as Spark's own reason."""
    assert explain(error) == clause
    assert was_lost(error) is lost
