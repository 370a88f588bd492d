# From `ployzctl machine ls --json` to targets for Prometheus (file_sd_configs): every program of every machine.
#
#   ployzctl machine ls --json | jq -f targets.jq > /etc/prometheus/ployz-targets.json
[ .[] | . as $m | {
    labels: { machine: .name },
    targets: [ (7490, 7491, 7492, 7493, (if $m.voter then 7494 else empty end)) | "[\($m.overlay)]:\(.)" ]
} ]
