package breaker

import "errors"

// Why an attempt may not be made. [Breaker.Ready] says when it is worth while to
// ask again.
var (
	// ErrOpen: the breaker is open.
	ErrOpen = errors.New("breaker: open")
	// ErrProbing: the breaker is half open and as many probes are in flight as
	// may be.
	ErrProbing = errors.New("breaker: half open, with all its probes in flight")
)

// ErrAlone is returned by an operator's action that took effect on this instance
// only, because the store could not be reached.
var ErrAlone = errors.New("breaker: changed on this instance only; the store is out of reach")
