"""Golden numerics, cycle engine, activity and cost: what a program computes, how long it takes, what it costs."""
