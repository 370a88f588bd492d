package echo_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/echo"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

func TestMeasure(t *testing.T) {
	testenv.Require(t, testenv.Root)
	machine, _ := linktest.Lab(t, false)
	nobody, elsewhere := netip.MustParseAddr("2001:db8:51::99"), netip.MustParseAddr("2001:db8:52::1")
	probe := echo.Probe{Count: 4, Every: 20 * time.Millisecond, Wait: 200 * time.Millisecond}
	var trips []echo.Trip
	machine.Run(t, func() (err error) {
		trips, err = echo.Measure(t.Context(), linktest.MachineV6, []netip.Addr{linktest.OutsideV6, nobody, linktest.MachineV6, elsewhere}, probe)
		return err
	})
	for i, want := range []int{4, 0, 4, 0} {
		if trips[i].Sent != 4 || len(trips[i].Times) != want {
			t.Errorf("target %d: %+v, want %d answers", i, trips[i], want)
		}
		for _, took := range trips[i].Times {
			if took <= 0 || took > time.Second {
				t.Errorf("target %d answered after %s", i, took)
			}
		}
	}
}

func TestWhatCannotBeSentIsSaid(t *testing.T) {
	testenv.Require(t, testenv.Root)
	alone := linktest.New(t, "alone")
	alone.Run(t, func() error {
		trips, err := echo.Measure(t.Context(), netip.IPv6Loopback(), []netip.Addr{linktest.OutsideV6}, echo.Probe{Count: 1, Wait: time.Second})
		if err != nil || trips[0].Err == nil || trips[0].Sent != 1 {
			t.Errorf("without a route: %+v, %v", trips, err)
		}
		return nil
	})
}

func TestNothingCanBeMeasuredFromAnAddressOfOthers(t *testing.T) {
	testenv.Require(t, testenv.Root)
	linktest.New(t, "alone").Run(t, func() error {
		if _, err := echo.Measure(t.Context(), linktest.MachineV6, nil, echo.Default()); err == nil {
			t.Error("no error")
		}
		return nil
	})
}
