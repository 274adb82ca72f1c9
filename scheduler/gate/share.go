package gate

// shareFactor is α of the dynamic threshold. With 4 a key that is alone may have four
// fifths of an instance's capacity in flight, and one of two equally greedy keys four
// ninths.
const shareFactor = 4

// Threshold returns how many attempts of one key may be in flight at an instance that may
// have capacity in flight and has inFlight, from 1. It is the dynamic threshold by which
// switches share a buffer (Choudhury and Hahne, "Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches", 1998): a multiple of what is free. A key takes most of
// an idle instance, and yet some is always left for one that comes later.
func Threshold(capacity, inFlight int) int {
	return max(shareFactor*(capacity-inFlight), 1)
}

// nearThreshold is how close to its threshold a key is limited at all.
const nearThreshold = 256
