package logstore

import (
	"context"
	"math"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
)

// ActivityQuery selects attempts of one account, or of one of its webhooks, that began in a time, half
// open and in whole minutes. They are counted in steps of so many minutes from its start.
type ActivityQuery struct {
	Account    postrider.AccountID
	WebhookID  string // empty: all
	Start, End time.Time
	Minutes    int64 // of a step, at least 1
}

// ActivityCount is how many attempts of one step ended alike and took about as long.
type ActivityCount struct {
	Step   int // from 0
	Good   bool
	Bucket int // see BucketTime
	Count  int64
}

// bucketGrowth is how much longer the attempts of a bucket take than those of the one before.
const bucketGrowth = 1.2

// bucketOf is the bucket of a time in microseconds.
func bucketOf(us int64) int {
	if us <= 1 {
		return 0
	}
	return int(math.Log(float64(us)) / math.Log(bucketGrowth))
}

// BucketTime is the time that stands for all of a bucket: at most a tenth off.
func BucketTime(bucket int) time.Duration {
	return time.Duration(math.Pow(bucketGrowth, float64(bucket)+0.5) * float64(time.Microsecond))
}

// notCounted is the bucket of attempts that say nothing about traffic.
const notCounted = -1

// counted is what an attempt is counted by.
func (a *trying) counted() (good, bucket int) {
	if a.trigger == TriggerTest {
		return 0, notCounted
	}
	if a.outcome == string(postrider.Succeeded) {
		good = 1
	}
	return good, bucketOf(a.took)
}

const selectActivity = `SELECT (minute - ?) / ?, good, bucket, SUM(count) FROM activity
	WHERE account_id = ? AND webhook_id = ? AND minute >= ? AND minute < ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`

// Activity counts attempts.
func (r *reader) Activity(ctx context.Context, q ActivityQuery) ([]ActivityCount, error) {
	from, to := minute(q.Start), minute(q.End)
	var counts []ActivityCount
	args := []any{from, q.Minutes, string(q.Account), q.WebhookID, from, to}
	err := r.query(ctx, selectActivity, args, func(row scanner) error {
		var c ActivityCount
		var good int
		if err := row.Scan(&c.Step, &good, &c.Bucket, &c.Count); err != nil {
			return err
		}
		c.Good = good == 1
		counts = append(counts, c)
		return nil
	})
	return counts, wrap(err, "count attempts")
}

func minute(t time.Time) int64 { return t.Unix() / int64(time.Minute/time.Second) }
