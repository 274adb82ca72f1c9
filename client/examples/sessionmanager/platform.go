package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// platform is an HTTP API with sessions. It refuses its first login as busy. A session is good
// for one post; mallory's are good for none.
type platform struct {
	mu       sync.Mutex // guards the fields below
	logins   int
	sessions map[string]int // posts left, by token
}

// headerCode is the header in which the platform names its errors.
const headerCode = "X-Error-Code"

// codeExpired is the code of an expired session.
const codeExpired = "SESSION_EXPIRED"

func newPlatform() http.Handler {
	p := &platform{sessions: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("POST /post", p.post)
	return mux
}

func (p *platform) login(w http.ResponseWriter, r *http.Request) {
	name, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins++
	if p.logins == 1 {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	token := fmt.Sprintf("session-%d", p.logins)
	p.sessions[token] = 1
	if string(name) == "mallory" {
		p.sessions[token] = 0
	}
	fmt.Fprint(w, token)
}

func (p *platform) post(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if p.sessions[token] == 0 {
		w.Header().Set(headerCode, codeExpired)
		http.Error(w, "log in again", http.StatusUnauthorized)
		return
	}
	p.sessions[token]--
}
