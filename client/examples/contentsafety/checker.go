package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/client"
)

// codeRejected is the code of a post that no further attempt would let pass.
const codeRejected = "CONTENT_REJECTED"

// Checker finds forbidden words in posts. It is safe for concurrent use.
type Checker struct {
	mu        sync.Mutex // guards the fields below
	forbidden map[string]bool
	surplus   int // checks to refuse as overload
}

// NewChecker returns a checker that rejects these words.
func NewChecker(words ...string) *Checker {
	c := &Checker{forbidden: make(map[string]bool)}
	for _, w := range words {
		c.forbidden[w] = true
	}
	return c
}

// Overload makes the checker refuse the next n checks as overload.
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

// Check returns an error if the text is rejected or cannot be checked now.
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
