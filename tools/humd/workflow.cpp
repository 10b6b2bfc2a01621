// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/workflow.h"

#include <algorithm>

#include "tools/humd/api_error.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::chrono::milliseconds store_pause{200};
constexpr int most_undo_tries = 3;
constexpr std::chrono::milliseconds undo_pause{100};

// Until the store takes it. What work changes in rows is undone by a failure, so it is all done again.
template <typename Work>
Task<> until_stored(Store& store, Run& run, Work work) {
  for (;;) {
    try {
      co_await work();
      co_return;
    } catch (const StoreError&) {
      run.operation.failure = failure_of(std::current_exception());
      store.rollback();
    }
    co_await run.changed.wait_until(std::chrono::steady_clock::now() + store_pause);
  }
}

class Carrier {
 public:
  Carrier(Manager& manager, Journal& journal, Store& store, const Workflow& workflow, Run& run)
      : manager_(manager), journal_(journal), store_(store), workflow_(workflow), run_(run) {}

  Task<> carry_out() {
    // What a power cut leaves of the steps' work is known by the operation alone.
    if (workflow_.is_lasting) co_await sync();
    const int count = static_cast<int>(workflow_.steps.size());
    Operation& operation = run_.operation;
    if (!operation.undoing) {
      for (int index = std::max(operation.step, 0); index < count && !operation.undoing; ++index)
        co_await forwards(index);
    }
    if (!operation.undoing) co_return co_await finish(Operation::State::done);
    for (int index = operation.step; index >= 0; --index) co_await backwards(index);
    const bool cancelled = operation.failure && operation.failure->code == "cancelled";
    co_await finish(cancelled ? Operation::State::cancelled : Operation::State::failed);
  }

 private:
  Task<> sync() {
    co_await until_stored(store_, run_, [&]() -> Task<> { co_await store_.synced(); });
  }

  Task<> enter(int index) {
    const Step& step = workflow_.steps[static_cast<std::size_t>(index)];
    run_.step = step.name;
    co_await until_stored(store_, run_, [&]() -> Task<> {
      journal_.enter(run_.operation, index, step.name);
      co_return;
    });
  }

  Task<> forwards(int index) {
    const Step& step = workflow_.steps[static_cast<std::size_t>(index)];
    co_await enter(index);
    std::exception_ptr error;
    try {
      if (run_.cancel_wanted) throw Cancelled();
      co_await until_stored(store_, run_, [&]() -> Task<> {
        co_await step.act(manager_, run_);
        store_.commit();
      });
      journal_.acted(run_.operation, step.name);
    } catch (const std::exception&) {
      error = std::current_exception();
    }
    if (!error) co_return;
    store_.rollback();
    co_await until_stored(store_, run_, [&]() -> Task<> {
      journal_.turn_back(run_.operation, failure_of(error));
      co_return;
    });
  }

  // What cannot be undone after some tries is left to the sweep of the next start.
  Task<> backwards(int index) {
    const Step& step = workflow_.steps[static_cast<std::size_t>(index)];
    if (step.undo == nullptr) co_return;
    co_await enter(index);
    for (int tries = 1; tries <= most_undo_tries; ++tries) {
      bool undone = false;
      try {
        co_await until_stored(store_, run_, [&]() -> Task<> {
          co_await step.undo(manager_, run_);
          store_.commit();
        });
        undone = true;
      } catch (const std::exception&) {
        store_.rollback();
      }
      if (undone) break;
      co_await run_.changed.wait_until(std::chrono::steady_clock::now() + undo_pause);
    }
    journal_.acted(run_.operation, step.name);
  }

  Task<> finish(Operation::State state) {
    if (state == Operation::State::done) run_.operation.failure.reset();
    co_await until_stored(store_, run_, [&]() -> Task<> {
      journal_.finish(run_.operation, state);
      co_return;
    });
  }

  Manager& manager_;
  Journal& journal_;
  Store& store_;
  const Workflow& workflow_;
  Run& run_;
};

}  // namespace

Operation::Failure failure_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Cancelled& cancelled) {
    return {"cancelled", cancelled.what()};
  } catch (const ApiError& refused) {
    return {refused.code(), refused.what()};
  } catch (const ConfigError& wrong) {
    return {"bad-request", wrong.what()};
  } catch (const StoreError& store) {
    return {"store-failed", store.what()};
  } catch (const std::exception& other) {
    return {"host-refused", other.what()};
  }
}

Task<> carry_out(Manager& manager, Journal& journal, Store& store, const Workflow& workflow, Run& run) {
  Carrier carrier(manager, journal, store, workflow, run);
  co_await carrier.carry_out();
}

}  // namespace hum
