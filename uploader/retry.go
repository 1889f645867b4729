package uploader

import "time"

// filterRetry is how soon a filter that is away is asked again: it is local and
// costs nothing.
const filterRetry = time.Second

// nextAttempt returns when to try again after an attempt that failed now, the
// first of a row having begun at first: 1, 2, 4, 8 and 10 minutes after the
// first, then every 30 minutes. Times that passed while an attempt lasted are
// left out.
func nextAttempt(first, now time.Time) time.Time {
	for _, minutes := range []time.Duration{1, 2, 4, 8, 10} {
		if at := first.Add(minutes * time.Minute); at.After(now) {
			return at
		}
	}
	const late, every = 10 * time.Minute, 30 * time.Minute
	n := now.Sub(first.Add(late))/every + 1
	return first.Add(late + n*every)
}
