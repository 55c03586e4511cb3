// Package failing decides when a webhook has failed for too long (ADR 0016). It is arithmetic: what
// it reckons with is kept in the configuration's bucket `failing`.
package failing

import (
	"crypto/sha256"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/postrider/postrider/proto/gen/go/postrider/api/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Bounds of the time that accounts and webhooks may choose.
const (
	MinLimit = time.Hour
	MaxLimit = 30 * 24 * time.Hour
)

// longestPause is how long a webhook may go without an attempt in a spell of failing. It is longer
// than any delay of a retry schedule.
const longestPause = 30 * time.Hour

// marks are the shares of the limit, in per cent, at which the owner is warned.
var marks = []int32{95, 80, 50}

// Limit is how long the webhook may fail: its own limit, its account's or the deployment's; 0 means
// for ever. A webhook may shorten what its account or the deployment allows, not lengthen it.
func Limit(w *postriderv1.Webhook, acc *postriderv1.Account, deployment time.Duration) time.Duration {
	limit := deployment
	if acc.GetDisableFailingAfter() != nil {
		limit = acc.GetDisableFailingAfter().AsDuration()
	}
	if own := w.GetDisableFailingAfter(); own != nil && (limit == 0 || own.AsDuration() < limit) {
		limit = own.AsDuration()
	}
	return limit
}

// Merge is what is known of a webhook's failures after a report: nil if its last attempt succeeded.
// Before is what was known, nil for nothing; it is not changed. Reports may come twice and late.
//
// A spell ends with a success, with a change of the webhook's state or URL, and with a long pause:
// two failures a week apart are not a week of failing.
func Merge(before *recordv1.Failing, r *apiv1.WebhookOutcomes, w *postriderv1.Webhook, limit time.Duration) *recordv1.Failing {
	target := target(w)
	since, last := r.GetFailingSince().AsTime(), r.GetLastFailureTime().AsTime()
	failed := r.GetFailingSince() != nil && w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE &&
		!last.Before(w.GetStateTime().AsTime())
	if since.Before(w.GetStateTime().AsTime()) {
		since = w.GetStateTime().AsTime()
	}
	if before != nil && ended(before, r, w, target) {
		before = nil
	}
	if !failed {
		return before
	}
	if before == nil || since.Sub(before.GetLastFailureTime().AsTime()) > max(longestPause, limit/4) {
		before = &recordv1.Failing{AccountId: w.GetAccountId(), WebhookId: w.GetId(), Since: timestamppb.New(since), Target: target}
	}
	next := proto.CloneOf(before)
	if since.Before(next.GetSince().AsTime()) {
		next.Since = timestamppb.New(since)
	}
	if next.GetLastFailureTime() == nil || last.After(next.GetLastFailureTime().AsTime()) {
		next.LastFailureTime = timestamppb.New(last)
		next.LastStatusCode, next.LastErrorClass = r.GetLastStatusCode(), r.GetLastErrorClass()
	}
	return next
}

// ended reports whether a spell is over by what the report says and the webhook is.
func ended(f *recordv1.Failing, r *apiv1.WebhookOutcomes, w *postriderv1.Webhook, target []byte) bool {
	since := f.GetSince().AsTime()
	return string(f.GetTarget()) != string(target) || since.Before(w.GetStateTime().AsTime()) ||
		r.GetSuccessTime() != nil && !r.GetSuccessTime().AsTime().Before(since)
}

// Judge says what a spell calls for. Warn is the mark at which the owner is to be warned now, 0 for
// none; disable is never said before a warning was given.
func Judge(f *recordv1.Failing, limit time.Duration) (warn int32, disable bool) {
	if f == nil || limit <= 0 {
		return 0, false
	}
	failed := f.GetLastFailureTime().AsTime().Sub(f.GetSince().AsTime())
	if failed >= limit && f.GetWarnedPercent() > 0 {
		return 0, true
	}
	for _, mark := range marks {
		if failed >= limit/100*time.Duration(mark) {
			if mark > f.GetWarnedPercent() {
				return mark, false
			}
			return 0, false
		}
	}
	return 0, false
}

// Worth reports whether what changed between two states of a spell must be stored. What moves with
// each failure alone is stored a hundred times until the limit, not each time.
func Worth(before, after *recordv1.Failing, limit time.Duration) bool {
	if before == nil || after == nil {
		return before != after
	}
	moved := after.GetLastFailureTime().AsTime().Sub(before.GetLastFailureTime().AsTime())
	return moved >= min(longestPause, max(limit, MinLimit))/100 || before.GetWarnedPercent() != after.GetWarnedPercent() ||
		!before.GetSince().AsTime().Equal(after.GetSince().AsTime()) || string(before.GetTarget()) != string(after.GetTarget())
}

// target names the URL without being it: URLs may hold secrets.
func target(w *postriderv1.Webhook) []byte {
	sum := sha256.Sum256([]byte(w.GetUrl()))
	return sum[:16]
}
