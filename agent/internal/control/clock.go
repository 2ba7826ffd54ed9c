package control

import (
	"net/http"
	"sync/atomic"
	"time"
)

// tolerated is the difference that is not one: the Date header counts whole
// seconds, and the way takes time.
const tolerated = 3 * time.Second

// clock corrects the time of this machine by the control plane's, so that a
// machine whose clock is off can still sign what the control plane believes.
type clock struct {
	own    func() time.Time // of this machine; nil is time.Now
	offset atomic.Int64     // nanoseconds, to be added
}

// wall returns the time as this machine sees it.
func (c *clock) wall() time.Time {
	if c.own == nil {
		return time.Now()
	}
	return c.own()
}

// now returns the time as the control plane sees it.
func (c *clock) now() time.Time { return c.wall().Add(time.Duration(c.offset.Load())) }

// learn compares the Date header of an answer (RFC 9110, section 6.6.1) with
// the middle of the time that the answer took.
func (c *clock) learn(header http.Header, sent time.Time) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	middle := sent.Add(c.wall().Sub(sent) / 2)
	offset := date.Add(500 * time.Millisecond).Sub(middle.Round(0))
	if offset.Abs() < tolerated {
		offset = 0
	}
	c.offset.Store(int64(offset))
}
