"""One pure function per figure: tables and tensors in, a matplotlib `Figure` out."""
