# Node processes with the original library on the store, writers and readers on the mount, all on the same objects:
# nothing lost, nobody on the mount meets half a text. 6 s each with and without updates by Node; --long 30 s.
need_seed
export REVFS_SEED=$seed
[ -z "$long" ] || export REVFS_LONG=1
fleet() { cargo test --quiet --test it four_node_processes_and_four_mount_writers; }
try 900 fleet fleet
