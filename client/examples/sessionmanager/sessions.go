package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/rebound-mq/rebound/client"
)

// Sessions keeps a session at a platform for each account. It is safe for concurrent use.
type Sessions struct {
	client   *client.Client
	http     *http.Client
	platform string

	mu       sync.Mutex // guards the fields below
	accounts map[string]*account
}

// account is the state of an account: its calls, which are made once and used for all its
// operations, and the token of its session, empty for none.
type account struct {
	create, act *client.Call
	token       string
}

// NewSessions returns the sessions at the platform whose API is at the URL platform.
func NewSessions(c *client.Client, h *http.Client, platform string) *Sessions {
	return &Sessions{client: c, http: h, platform: platform, accounts: make(map[string]*account)}
}

// Create logs an account in and returns which attempt succeeded.
func (s *Sessions) Create(ctx context.Context, name string) (attempt int, err error) {
	return client.Execute(ctx, s.client, s.account(name).create, func(ctx context.Context) (int, error) {
		_, err := s.login(ctx, name)
		return client.AttemptFrom(ctx), err
	})
}

// Act posts a text for an account and returns which attempt succeeded. It logs in if there is no
// session.
func (s *Sessions) Act(ctx context.Context, name, text string) (attempt int, err error) {
	return client.Execute(ctx, s.client, s.account(name).act, func(ctx context.Context) (int, error) {
		token := s.token(name)
		if token == "" {
			// Create is not called here: nested retries multiply.
			var err error
			if token, err = s.login(ctx, name); err != nil {
				return 0, err
			}
		}
		_, err := s.call(ctx, "/post", token, text)
		var failure *client.Error
		if errors.As(err, &failure) && failure.Code == codeExpired {
			s.forget(name, token) // the next attempt logs in
		}
		return client.AttemptFrom(ctx), err
	})
}

func (s *Sessions) login(ctx context.Context, name string) (token string, err error) {
	token, err = s.call(ctx, "/login", "", name)
	if err != nil {
		return "", err
	}
	a := s.account(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	a.token = token
	return token, nil
}

// forget drops a token, unless another operation has already replaced it.
func (s *Sessions) forget(name, token string) {
	a := s.account(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.token == token {
		a.token = ""
	}
}

// call sends a request to the platform. Its errors carry the platform's own code, which is more
// specific than the status.
func (s *Sessions) call(ctx context.Context, path, token, text string) (body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.platform+path, strings.NewReader(text))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := s.http.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if err := client.ErrorFromResponse(response); err != nil {
		if code := response.Header.Get(headerCode); code != "" {
			err = &client.Error{Code: code, Err: err}
		}
		return "", err
	}
	answer, err := io.ReadAll(response.Body)
	return string(answer), err
}

func (s *Sessions) account(name string) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.accounts[name]
	if !ok {
		a = &account{
			create: &client.Call{Service: "session_manager", Operation: "create_session", Account: name},
			act:    &client.Call{Service: "session_manager", Operation: "execute_action", Account: name, Priority: client.High},
		}
		s.accounts[name] = a
	}
	return a
}

func (s *Sessions) token(name string) string {
	a := s.account(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.token
}
