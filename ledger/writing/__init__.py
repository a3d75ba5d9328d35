"""From a submission to a witnessed head: queue, sequencer, cosignatures, receipts, recovery."""
