#!/usr/bin/env bash
# Shows Ployz on one machine of a lab, from the package to a killed control plane. Safe to repeat.
#
#   make demo          builds, makes the .deb and the images, and runs this
#   make demo-clean    takes the lab away again
set -euo pipefail
cd "$(dirname "$0")/.."

lab=demo
machine=$lab/m1
ctl=$PWD/bin/ployzctl
export PLOYZ_HOST=dev://$machine

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }

# show prints a command as the user would type it, and runs it.
show() {
    printf '%s$ ployzctl' "$bold"
    printf ' %s' "$@"
    printf '%s\n' "$plain"
    "$ctl" "$@"
}

inside() { "$ctl" dev exec "$machine" -- "$@"; }
client() { "$ctl" dev exec "$lab/client" -- "$@"; }
shop() { client curl -sS --max-time 10 -H 'Host: shop.test' "$@"; }

say 'A machine: systemd, its own network, the package installed as on bare metal'
# shellcheck disable=SC2012 # names are of our own making
deb=$(ls -t dist/ployz_*_"$(dpkg --print-architecture)".deb | head -n 1)
"$ctl" dev up --name "$lab" --machines 1 --deb "$deb"
export SHOP_VERSION=v1

say 'Found a cluster on it'
if "$ctl" status | grep -q '^store *absent'; then
    show init
else
    echo 'The machine belongs to a cluster already: the demo was run before.'
fi
show status

say 'Push the images: from here to the machine, without a registry'
for image in shop-web shop-app shop-app-v2 shop-db; do
    show image push "dist/images/$image"
done

say 'What would a deploy do?'
show preview -f examples/shop/compose.yaml

say 'Deploy it'
show deploy -f examples/shop/compose.yaml
show service ls

say 'Ask it over the gateway, from outside of the machine'
echo "\$ curl -H 'Host: shop.test' http://m1/api/summary"
shop http://m1/api/summary
echo
say 'Ask the resolver by name'
dns=$(inside sh -c "sed -n 's/.*\"subnet4\": \"\(.*\)\.0\/24\".*/\1.1/p' /var/lib/ployz/machine.json")
echo "\$ dig @$dns app.shop.ployz.internal"
inside dig +short "@$dns" app.shop.ployz.internal A

say 'Kill ployzd in the middle of 200 requests'
before=$(inside systemctl show -p MainPID --value ployzd)
# shellcheck disable=SC2016 # expands inside the machine
inside sh -c 'for i in 1 2 3 4 5; do sleep 0.4; kill -9 "$(systemctl show -p MainPID --value ployzd)"; done' &
killer=$!
# shellcheck disable=SC2016
failed=$(client sh -c '
    failed=0
    for i in $(seq 200); do
        curl -sSf --max-time 10 -o /dev/null -H "Host: shop.test" http://m1/api/summary || failed=$((failed + 1))
    done
    echo $failed')
wait "$killer"
after=$(inside systemctl show -p MainPID --value ployzd)
echo "ployzd was process $before and is now $after; of 200 requests $failed failed."
[ "$failed" = 0 ]

say 'Update the application while it serves, and go back'
SHOP_VERSION=v2 show deploy -f examples/shop/compose.yaml
echo "\$ curl -H 'Host: shop.test' http://m1/version"
shop http://m1/version
echo
show rollback shop
show history shop
shop http://m1/version
echo

say 'Everything works. Next, try:'
cat <<END
  export PLOYZ_HOST=$PLOYZ_HOST PATH=\$PWD/bin:\$PATH
  ployzctl status
  ployzctl logs -f shop/app
  ployzctl exec -it shop/db -- psql -U shop
  ployzctl operation ls
  ployzctl service scale shop/app 3
  ployzctl diff shop 1 2
  ployzctl doctor
  ployzctl dev shell $machine
  make demo-clean
END
