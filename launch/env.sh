# shellcheck shell=sh
# Environment of every script here and of mpirun. Sourced, never run. A variable that is already set
# keeps its value. This is the whole list; the program's own settings live in its configuration.

export LC_ALL="${LC_ALL:-C.UTF-8}"

# Open MPI refuses to start as root (usual in containers) unless told twice.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
  export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
fi

# More ranks than cores are allowed: tests and the quick start run four ranks on two cores. The first
# name is Open MPI 4's, the second Open MPI 5's.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"

# Open MPI ties each of one or two ranks to a single core, with all of its threads. Tessera gives a
# rank (cores / ranks of this host) threads and the system places them. Open MPI 4's name, then 5's.
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"

# Ranks of one host copy from each other's memory with process_vm_readv, which container runtimes
# forbid: every run then prints errors. Shared memory does the same with one copy more.
if [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}" ] ||
  [ -n "${KUBERNETES_SERVICE_HOST:-}" ]; then
  export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
fi

# NCCL: no multicast sums in the NVLink switch (NVLink SHARP). They need the host's fabric manager, which
# containers and virtual machines often cannot reach; ranks then fail or hang at their start, and a
# killed program can leave the switch unusable for others. Set 1 where they are known to work.
export NCCL_NVLS_ENABLE="${NCCL_NVLS_ENABLE:-0}"

# CUDA: hardware queues of a process (default 8). Streams that share one run in order, and a kernel that
# waits for another rank must not stand before the work which that rank waits for.
export CUDA_DEVICE_MAX_CONNECTIONS="${CUDA_DEVICE_MAX_CONNECTIONS:-32}"

# Not set here: OMP_NUM_THREADS. Tessera computes the threads of a rank; set it to overrule that.

# Not set either: Open MPI's oob_tcp_keepalive_*. With a host cut off mpirun 4.1.4 still hung 90 s after
# all ranks had left, with 20 s of silence and 3 probes of 5 s; supervise.sh ends it.

# Never set the like of orte_abort_on_non_zero_status 0 or --enable-recovery: mpirun then returns 0 after
# a failure, and nobody starts the job again.

# What a script hands on to the ranks of other hosts, where it is set: all that is exported above, and
# these, which a user may set for the program, the loader, CUDA, NCCL and UCX.
# shellcheck disable=SC2034
tessera_handed_on="OMP_NUM_THREADS TESSERA_PROGRESS LD_LIBRARY_PATH CUDA_VISIBLE_DEVICES NCCL_DEBUG \
  NCCL_SOCKET_IFNAME NCCL_IB_HCA UCX_NET_DEVICES UCX_TLS"
