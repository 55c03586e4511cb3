package verify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
)

type contextKey struct{}

// FromContext is the message that Handler verified.
func FromContext(ctx context.Context) (*Message, bool) {
	m, ok := ctx.Value(contextKey{}).(*Message)
	return m, ok
}

// Handler lets genuine requests through to next, which can read the body again and finds the
// Message with FromContext. It answers 401 to all others, without saying why, and 413 to those
// whose body is longer than Options.MaxBody.
func (v *Verifier) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, v.opts.MaxBody))
		if err != nil {
			v.opts.Refused(r, err)
			status := http.StatusBadRequest
			if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, http.StatusText(status), status)
			return
		}
		m, err := v.Verify(r, body)
		if err != nil {
			v.opts.Refused(r, err)
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), contextKey{}, m))
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		next.ServeHTTP(w, r)
	})
}
