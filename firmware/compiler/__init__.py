"""From a quantised model to a program: plan, schedule, place."""
