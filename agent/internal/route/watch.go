package route

import "time"

// settle is how long a burst of changes is waited for: a new lease touches
// address and route within that time.
const settle = 250 * time.Millisecond
