"""What other tools say about one and the same workload, computed from their assumptions.

    workload    the machine, the products of a LLaMA2-7B layer, and what an estimate is
    bounds      the lower bound, LLM-Viewer and GenZ: the longer of arithmetic and DRAM
    scalesim    SCALE-Sim, output- and weight-stationary
    accelforge  AccelForge: the slowest component, the array's edge among them
    zigzag      ZigZag: the same with first load and last store exposed
    bitmod      the simulator of BitMoD
    ant         the simulator of ANT, output- and weight-stationary: a search over schedules
    chipleap    chipleap's GEMV, output- and weight-stationary engines
    ours        the cycle engine of this package on the same machine
    peers       the list of all of them
    reproduce   the rows of ``mixflight reproduce peers``
    table       docs/who-says-what.md

``published.csv`` holds what each tool printed, or its closed form where the tool cannot finish; ``kind`` says which.
"""
