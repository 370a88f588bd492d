#!/usr/bin/env bash
# Shows Ployz in a lab: one machine, from the package to a killed control plane, with a branch of the running
# application and its data that is promoted and rolled back; then three, of which one gets the database while it is
# written to, one loses its power and the founder leaves. Each run begins anew.
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
branch() { client curl -sS --max-time 10 -H 'Host: try.shop.test' "$@"; }

# order takes one lamp; orders prints how many orders there are.
order() { "$1" --fail -o /dev/null -d "customer=$2&sku=lamp&quantity=1" http://m1/api/orders; }
orders() { "$1" --fail "http://${2:-m1}/api/summary" | sed 's/.*"orders":\([0-9]*\).*/\1/'; }
expect() { [ "$2" = "$3" ] || { echo "$1: $2, not $3" >&2; exit 1; }; }

say 'Three machines: systemd, a network of their own, the package installed as on bare metal'
"$ctl" dev ls --json | grep -q "\"$lab\"" && "$ctl" dev down --name "$lab"
# shellcheck disable=SC2012 # names are of our own making
deb=$(ls -t dist/ployz_*_"$(dpkg --print-architecture)".deb | head -n 1)
"$ctl" dev up --name "$lab" --machines 3 --deb "$deb"
export SHOP_VERSION=v1

say 'Found a cluster on the first'
show init
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
inside sh -c '
    for i in 1 2 3 4 5; do
        sleep 0.4
        pid=$(systemctl show -p MainPID --value ployzd)
        [ "$pid" = 0 ] || kill -9 "$pid" # 0: systemd has not started the next one yet
    done' &
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

say 'Branch it with its data: the same images, the volume cloned, the customers masked before anybody sees them'
for customer in ada zoe ada; do order shop $customer; done
show branch shop try --secrets copy --expires 7d
show branch ls
echo "\$ curl -H 'Host: try.shop.test' http://m1/api/orders"
branch http://m1/api/orders
echo
order branch eve
echo "The branch has $(orders branch) orders, and the shop still $(orders shop)."
expect 'orders of the branch' "$(orders branch)" 4
expect 'orders of the shop' "$(orders shop)" 3

say 'Try the other version there, and promote it: the very digests that were tried'
SHOP_VERSION=v2 SHOP_HOST=try.shop.test show deploy -f examples/shop/compose.yaml --namespace try
show promote try
echo "\$ curl -H 'Host: shop.test' http://m1/version"
shop http://m1/version
echo
order shop moe

say 'Go back, with the data as it was then; and forward again, with the order that came since'
show rollback shop --with-data
echo "The shop has $(orders shop) orders."
expect 'orders after the rollback' "$(orders shop)" 3
show rollback shop --with-data
echo "The shop has $(orders shop) orders."
expect 'orders after it was undone' "$(orders shop)" 4
show rollback shop
show volume ls
show branch rm try
show volume prune try --older-than 0

say 'Add the other two: over your ssh on real machines, here as dev://LAB/MACHINE'
show machine add "dev://$lab/m2"
show machine add "dev://$lab/m3" --zone rack-2
show machine ls
show store status

say 'Spread the front over all of them; images go from machine to machine'
export SHOP_FRONTS=3
show deploy -f examples/shop/compose.yaml
show service ls shop
for m in m1 m2 m3; do
    echo "\$ curl -H 'Host: shop.test' http://$m/api/summary"
    shop "http://$m/api/summary"
    echo
done
show --host "dev://$lab/m3" logs -n 3 shop/web

say 'Move the database to m2 while orders come in; the gateways hold what would meet the stop'
before=$(orders shop)
# shellcheck disable=SC2016
client sh -c '
    rm -f /tmp/enough
    taken=0 failed=0
    until [ -e /tmp/enough ]; do
        if curl -sf --max-time 30 -o /dev/null -H "Host: shop.test" -d "customer=kim&sku=lamp&quantity=1" http://m1/api/orders
        then taken=$((taken + 1))
        else failed=$((failed + 1))
        fi
    done
    echo "$taken $failed" >/tmp/taken' &
taker=$!
show migrate shop/db --to m2 --hold
client touch /tmp/enough
wait "$taker"
read -r taken failed < <(client cat /tmp/taken)
echo "$taken orders were taken meanwhile and $failed failed; the shop had $before and has $(orders shop)."
[ "$(orders shop)" -ge $((before + taken)) ]
show volume show shop/data

say 'Cut the power of m3 in the middle of 100 requests at m1'
(sleep 0.5 && "$ctl" dev cut "$lab/m3" >/dev/null) &
cut=$!
# shellcheck disable=SC2016
failed=$(client sh -c '
    failed=0
    for i in $(seq 100); do
        curl -sSf --max-time 15 -o /dev/null -H "Host: shop.test" http://m1/api/summary || failed=$((failed + 1))
    done
    echo $failed')
wait "$cut"
echo "Of 100 requests $failed failed: the gateway tried another front when one did not answer."
show store status
show service ls shop
echo 'Nothing was moved, since nobody asked for it. Now somebody does: the machine is given up, its slot placed anew.'
show machine remove m3 --lost
show deploy -f examples/shop/compose.yaml

say 'The founder leaves: no machine is special'
export PLOYZ_HOST=dev://$lab/m2
echo 'The names of pushed images are known where they were pushed: so once more here, where most of the bytes are already.'
for image in shop-web shop-app shop-db; do
    show image push "dist/images/$image"
done
show machine drain m1
show deploy -f examples/shop/compose.yaml
echo 'What m1 keeps of the database is a copy from before the migration.'
show volume prune shop --older-than 0
show machine remove m1
show machine ls
echo "\$ curl -H 'Host: shop.test' http://m2/api/summary"
shop --fail http://m2/api/summary
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
  ployzctl branch shop mine --secrets copy
  ployzctl doctor
  ployzctl store verify
  ployzctl dev shell $lab/m2
  make demo-clean
END
