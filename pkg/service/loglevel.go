package service

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How long a level that was set at run time holds: a process that is forgotten at debug would fill
// the disk of whoever keeps its logs.
const (
	levelFor    = 15 * time.Minute
	longestTime = 24 * time.Hour
)

// levels changes the level of a process's logs for a while.
type levels struct {
	level *slog.LevelVar
	usual slog.Level
	log   *slog.Logger

	mu    sync.Mutex
	timer *time.Timer
}

// Levels lets the metrics port change the level of the process's logs: PUT /loglevel with a body
// of debug, info, warn or error, for the time that ?for=30m says (15 minutes if it says nothing, a
// day at most); then the configured level is back. DELETE /loglevel brings it back at once, GET
// shows it. Call it before the start.
func (a *Admin) Levels(level *slog.LevelVar) {
	a.levels = &levels{level: level, usual: level.Level(), log: a.log}
}

// ServeHTTP shows or changes the level.
func (l *levels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPut:
		if err := l.put(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case http.MethodDelete:
		l.set(l.usual, 0)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintln(w, strings.ToLower(l.level.Level().String()))
}

func (l *levels) put(r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16))
	if err != nil {
		return fmt.Errorf("read the level: %w", err)
	}
	var level slog.Level
	name := strings.TrimSpace(string(body))
	switch name {
	case "debug", "info", "warn", "error":
		_ = level.UnmarshalText([]byte(name)) // it knows these
	default:
		return fmt.Errorf("level: must be debug, info, warn or error")
	}
	hold := levelFor
	if text := r.URL.Query().Get("for"); text != "" {
		if hold, err = time.ParseDuration(text); err != nil || hold <= 0 || hold > longestTime {
			return fmt.Errorf("for: must be a duration of at most %s, such as 30m", longestTime)
		}
	}
	l.set(level, hold)
	return nil
}

// set sets the level, and the usual one again after a while, unless it is that.
func (l *levels) set(level slog.Level, hold time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.level.Set(level)
	l.log.Warn("log level set", slog.String("level", level.String()), slog.Duration("for", hold))
	if level != l.usual {
		l.timer = time.AfterFunc(hold, func() { l.set(l.usual, 0) })
	}
}

// stop ends the timer.
func (l *levels) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}
