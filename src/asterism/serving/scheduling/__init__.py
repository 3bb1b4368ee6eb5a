"""When what is decoded, how wide and for whom: the engine's decisions, apart from clocks, processes and tensors."""

from asterism.serving.scheduling.cost_model import CostModel, CostSample
from asterism.serving.scheduling.figures import EngineFigures, Tally
from asterism.serving.scheduling.line import Line, Ticket
from asterism.serving.scheduling.scheduler import ScheduledBatch, Scheduler, SchedulerLimits
from asterism.serving.scheduling.widths import useful_widths, width_ladder

__all__ = [
    "CostModel",
    "CostSample",
    "EngineFigures",
    "Line",
    "ScheduledBatch",
    "Scheduler",
    "SchedulerLimits",
    "Tally",
    "Ticket",
    "useful_widths",
    "width_ladder",
]
