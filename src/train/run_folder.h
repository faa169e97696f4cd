// The folder of one run: paths, the lock that keeps a second job out, and requests left as files.
//
//   ROOT/NAME/config.yaml metrics.jsonl algorithms.json log/rank-N.log checkpoints/step-N/ lock
//   ROOT/NAME/exit.json   why the last job left with another code than 0 (core/exit_record.h)
//
//   ROOT/NAME/stop   put there by a person: save, then leave with exit code 75
//   ROOT/NAME/save   put there by a person: save and go on; both are removed when honoured
#pragma once

#include <string>

namespace tessera::train {

class RunFolder {
 public:
  RunFolder(const std::string& root, const std::string& name) : path_(root + "/" + name) {}
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string config() const { return path_ + "/config.yaml"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string algorithms() const { return path_ + "/algorithms.json"; }
  std::string checkpoints() const { return path_ + "/checkpoints"; }
  std::string log(long long rank) const {
    return path_ + "/log/rank-" + std::to_string(rank) + ".log";
  }

  // Rank 0: creates the folder and takes the lock, held until this object goes. Error{config}
  // naming the holder (host, pid, start) when another job has it. Removes exit.json of the last
  // job.
  void open();
  // Rank 0: true, once, when a person left the file.
  bool take_stop_request() const { return take("stop"); }
  bool take_save_request() const { return take("save"); }

 private:
  bool take(const std::string& name) const;
  std::string path_;
  int lock_ = -1;
};

}  // namespace tessera::train
