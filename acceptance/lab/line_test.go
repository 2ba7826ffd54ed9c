package lab

import (
	"math/rand/v2"
	"testing"
	"time"
)

// send lets n packets of 1250 bytes enter a lane, one each step, and returns
// when each left; what is missing was lost.
func send(line Line, n int, step time.Duration) (left map[int]time.Duration, order []int) {
	l := &lane{Line: line, random: rand.New(rand.NewPCG(1, 2))}
	begin := time.Unix(0, 0)
	left = map[int]time.Duration{}
	for i := range n {
		packet := make([]byte, 1250)
		packet[0], packet[1] = byte(i>>8), byte(i)
		l.enter(begin.Add(time.Duration(i)*step), packet)
	}
	for due, ok := l.next(); ok; due, ok = l.next() {
		packet := l.leave(due)
		i := int(packet[0])<<8 | int(packet[1])
		left[i] = due.Sub(begin)
		order = append(order, i)
	}
	return left, order
}

func TestLineDelays(t *testing.T) {
	left, _ := send(Line{Delay: 40 * time.Millisecond}, 10, time.Millisecond)
	for i := range 10 {
		if want := time.Duration(i+40) * time.Millisecond; left[i] != want {
			t.Errorf("packet %d left after %s, want %s", i, left[i], want)
		}
	}
}

func TestLineKeepsOrderUnlessAsked(t *testing.T) {
	line := Line{Delay: 40 * time.Millisecond, Jitter: 20 * time.Millisecond}
	inOrder := func(order []int) bool {
		for i := range order {
			if order[i] != i {
				return false
			}
		}
		return len(order) == 100
	}
	if _, order := send(line, 100, time.Millisecond); !inOrder(order) {
		t.Errorf("order %v", order)
	}
	line.Reorder = true
	left, order := send(line, 100, time.Millisecond)
	if inOrder(order) {
		t.Error("nothing was overtaken")
	}
	for i, at := range left {
		if took := at - time.Duration(i)*time.Millisecond; took < 20*time.Millisecond || took > 60*time.Millisecond {
			t.Errorf("packet %d took %s", i, took)
		}
	}
}

func TestLineLoses(t *testing.T) {
	const n = 20000
	for name, line := range map[string]Line{"alone": {Loss: 0.1}, "in bursts": {Loss: 0.1, Burst: 5}} {
		t.Run(name, func(t *testing.T) {
			left, _ := send(line, n, time.Millisecond)
			if lost := float64(n-len(left)) / n; lost < 0.08 || lost > 0.12 {
				t.Errorf("lost %.3f, want 0.1", lost)
			}
			bursts := 0
			for i := range n {
				_, here := left[i]
				_, before := left[i-1]
				if !here && (i == 0 || before) {
					bursts++
				}
			}
			length := float64(n-len(left)) / float64(bursts)
			if want := max(line.Burst, 1.1); length < want*0.8 || length > want*1.2 {
				t.Errorf("bursts are %.2f long, want %.2f", length, want)
			}
		})
	}
}

func TestLineHoldsRate(t *testing.T) {
	// 1250 bytes are 10,000 bits: 10 ms each at 1 Mbit/s. The queue takes 100 ms.
	left, _ := send(Line{Rate: 1_000_000, Delay: 5 * time.Millisecond}, 50, 0)
	if len(left) != 11 {
		t.Fatalf("%d packets passed, want 11: those that wait at most 100 ms for their turn", len(left))
	}
	for i := range 11 {
		if want := time.Duration(i+1)*10*time.Millisecond + 5*time.Millisecond; left[i] != want {
			t.Errorf("packet %d left after %s, want %s", i, left[i], want)
		}
	}
}
