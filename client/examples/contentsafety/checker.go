package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/client"
)

// codeRejected is the code of what no further attempt would let pass.
const codeRejected = "CONTENT_REJECTED"

// Checker finds forbidden words in posts. It is safe for concurrent use.
type Checker struct {
	mu        sync.Mutex // guards what follows
	forbidden map[string]bool
	surplus   int // checks that are too many
}

// NewChecker returns a checker that rejects these words.
func NewChecker(words ...string) *Checker {
	c := &Checker{forbidden: make(map[string]bool)}
	for _, w := range words {
		c.forbidden[w] = true
	}
	return c
}

// Overload makes the next n checks too many.
func (c *Checker) Overload(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.surplus = n
}

// Allow allows a word from now on.
func (c *Checker) Allow(word string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.forbidden, word)
}

// Check returns an error for a text that is rejected, or that cannot be checked
// now.
func (c *Checker) Check(text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.surplus > 0 {
		c.surplus--
		return &client.Error{Code: "OVERLOADED", Message: "too many checks", RetryAfter: time.Second}
	}
	for word := range strings.FieldsSeq(text) {
		if c.forbidden[word] {
			return &client.Error{Code: codeRejected, Message: fmt.Sprintf("the word %q is forbidden", word)}
		}
	}
	return nil
}
