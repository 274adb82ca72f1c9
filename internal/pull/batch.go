package pull

import "time"

// batch is how many messages a pull asks for, chosen so that it ends by receiving them and
// not by its timeout: what it asks for counts as in flight meanwhile, so other pulls that share
// the limit go without. 0 means not known.
type batch int

// most returns how many messages the next pull may ask for.
func (b batch) most() int {
	if b == 0 {
		return MaxBatch
	}
	return int(b)
}

// had records how many messages a pull asked for and received, and how long it took.
func (b *batch) had(asked, received int, took time.Duration) {
	switch {
	case received < asked:
		*b = batch(max(received*3/4, 1))
	case took < fetchWait/4:
		*b = batch(min(max(b.most(), 2*asked), MaxBatch))
	}
}
