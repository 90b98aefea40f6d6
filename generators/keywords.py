"""Words with a meaning of their own in the languages of the generated files, and of designs that use these."""

__all__ = ["KEYWORDS"]

_VERILOG = """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
    binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
    constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge
    else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
    endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect
    export extends extern final first_match for force foreach forever fork forkjoin function generate genvar global
    highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input
    inside instance int integer interconnect interface intersect join join_any join_none large let liblist library local
    localparam logic longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
    noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority program
    property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
    rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
    signed small soft solve specify specparam static std string strong strong0 strong1 struct super supply0 supply1
    sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri
    tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped use uwire var
    vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor"""

_VHDL = """
    abs access after alias all and architecture array assert assume attribute begin block body buffer bus case component
    configuration constant context cover default disconnect downto else elsif end entity exit fairness file for force
    function generate generic group guarded if impure in inertial inout is label library linkage literal loop map mod
    nand new next nor not null of on open or others out package parameter port postponed procedure process property
    protected pure range record register reject release rem report restrict return rol ror select sequence severity
    shared signal sla sll sra srl strong subtype then to transport type unaffected units until use variable view vpkg
    vmode vprop vunit wait when while with work xnor xor"""

_C = """
    alignas alignof asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break case catch char
    char16_t char32_t char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
    constinit continue decltype default delete do double dynamic_cast else enum explicit export extern false float for
    friend goto if inline int long mutable namespace new noexcept not_eq nullptr operator or_eq private protected public
    register reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct
    switch synchronized template this thread_local throw true try typedef typeid typename typeof typeof_unqual union
    unsigned using virtual void volatile wchar_t while xor_eq and_eq"""

_SYSTEMRDL = """
    abstract accesstype addressingtype addrmap alias all alternate bit boolean bothedge byte compact component
    componentwidth constraint default encode enum external false field fullalign hw inside int internal level longint
    mem na negedge nonsticky number onreadtype onwritetype posedge precedencetype property r rclr real ref reg regalign
    regfile rset ruser rw rw1 shortint shortreal signal signed string struct sw this true type unsigned w w1 wclr with
    within woclr woset wot wr wset wuser wzc wzs wzt"""

_TCL = """
    after append apply array binary break catch cd chan clock close concat continue coroutine dict else elseif encoding
    eof error eval exec exit expr fblocked fconfigure fcopy file fileevent finally flush for foreach format gets glob
    global history if incr info interp join lappend lassign lindex linsert list llength lmap load lrange lrepeat
    lreplace lreverse lsearch lset lsort namespace on open package pid proc puts pwd read regexp regsub rename return
    scan seek set socket source split string subst switch tailcall tell then throw time trace trap try unknown unload
    unset update uplevel upvar variable vwait while yield yieldto zlib"""

#: The words that begin with a letter, in small ones, of each language. YAML is that of FuseSoC's cores.
KEYWORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split()) for language, words in {
        "Verilog": _VERILOG, "C": _C, "SystemRDL": _SYSTEMRDL, "VHDL": _VHDL, "Tcl": _TCL,
        "YAML": "true false yes no on off null y n"}.items()}
