package simulator

// hand bounds the due operations that an instance has in hand. A nil hand has no bound.
type hand struct {
	most, taken int
	waiting     []func() // in the order in which they came due
}

// take takes an operation in hand and calls do, as soon as there is a place.
func (h *hand) take(do func()) {
	if h == nil {
		do()
		return
	}
	if h.taken < h.most && len(h.waiting) == 0 {
		h.taken++
		do()
		return
	}
	h.waiting = append(h.waiting, do)
}

// tryTake takes an operation in hand if there is a place.
func (h *hand) tryTake() bool {
	if h == nil {
		return true
	}
	if h.taken >= h.most || len(h.waiting) > 0 {
		return false
	}
	h.taken++
	return true
}

// giveBack gives a place to the next operation that waits for one.
func (h *hand) giveBack() {
	if h == nil {
		return
	}
	if len(h.waiting) == 0 {
		h.taken--
		return
	}
	do := h.waiting[0]
	h.waiting = h.waiting[1:]
	do()
}
