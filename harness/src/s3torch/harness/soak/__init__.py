"""Mixed load under faults for as long as you like, watched for growth, wrong bytes and hangs.

``python -m s3torch.harness.soak --minutes 10``
"""

from s3torch.harness.soak.settings import Settings
from s3torch.harness.soak.soaking import Report, run_soak
from s3torch.harness.soak.trend import Growth, judge_growth
from s3torch.harness.soak.watching import Sample, take_sample

__all__ = ["Growth", "Report", "Sample", "Settings", "judge_growth", "run_soak", "take_sample"]
