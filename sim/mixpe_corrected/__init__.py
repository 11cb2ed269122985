"""What MixPE is worth when every machine gets the same silicon, the same memory and the same 4-bit model.

hardware         lanes and parts of PEs, recorded from our own RTL
machines         the candidates, each array sized to the INT8 array's area
prices           energies of our PEs and lanes, scaled to the technology of the other prices
run              time and energy of a model's prefill and decode on a machine
crossover        dequantising weights before or group sums after: closed form and the engine's counts
quantised        a weight in another format, tables included
quality          recorded errors and perplexities of number formats, by PE
design_space     area x energy of a MAC against error
reproduce        the rows of ``mixflight reproduce mixpe --mode corrected``
"""
