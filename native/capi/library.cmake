# libbiper: a shared and a static library, what finds them, and a Debian package.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
find_package(nlohmann_json 3.7 REQUIRED)

set(BIPER_CAPI_SOURCES
  native/capi/array_builder.cc
  native/capi/array_views.cc
  native/capi/biper.cc
  native/capi/budget.cc
  native/capi/build_engine.cc
  native/capi/checks.cc
  native/capi/container.cc
  native/capi/error_text.cc
  native/capi/json.cc
  native/capi/read_file.cc
  native/capi/reader.cc
  native/capi/rules.cc
  native/capi/rules_arrays.cc
  native/capi/sha256.cc)

# What the shared and the static library have in common. The engine is compiled once for both, and for Python.
add_library(biper_capi OBJECT ${BIPER_CAPI_SOURCES})
target_include_directories(biper_capi PRIVATE native $<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>)
target_compile_options(biper_capi PRIVATE ${BIPER_COMPILE_OPTIONS})
target_compile_definitions(biper_capi PRIVATE BIPER_VERSION="${PROJECT_VERSION}")
if(WIN32)
  target_compile_definitions(biper_capi PRIVATE BIPER_SHARED BIPER_BUILDS)
endif()

add_library(biper_shared SHARED $<TARGET_OBJECTS:biper_capi> $<TARGET_OBJECTS:biper_engine>)
add_library(biper_static STATIC $<TARGET_OBJECTS:biper_capi> $<TARGET_OBJECTS:biper_engine>)
set_target_properties(biper_shared PROPERTIES
  OUTPUT_NAME biper EXPORT_NAME biper VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
set_target_properties(biper_static PROPERTIES EXPORT_NAME static)
set_target_properties(biper_static PROPERTIES OUTPUT_NAME $<IF:$<BOOL:${WIN32}>,biper_static,biper>)
foreach(library biper_shared biper_static)
  target_include_directories(${library} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/native/capi> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
target_link_libraries(biper_shared PRIVATE Threads::Threads)
target_link_libraries(biper_static PUBLIC Threads::Threads)
if(WIN32)
  target_compile_definitions(biper_shared INTERFACE BIPER_SHARED)
endif()
# So that only the functions of biper.h are visible: those of the C++ library that were compiled here are not.
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" AND NOT APPLE AND NOT WIN32)
  set(BIPER_SYMBOLS ${PROJECT_SOURCE_DIR}/native/capi/symbols.map)
  target_link_options(biper_shared PRIVATE -Wl,--version-script=${BIPER_SYMBOLS})
  set_target_properties(biper_shared PROPERTIES LINK_DEPENDS ${BIPER_SYMBOLS})
endif()
add_library(biper::biper ALIAS biper_shared)
add_library(biper::static ALIAS biper_static)

install(TARGETS biper_shared biper_static EXPORT biper
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES native/capi/biper.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libbiper RENAME copyright)

set(BIPER_CONFIG_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/biper)
install(EXPORT biper NAMESPACE biper:: FILE biper-targets.cmake DESTINATION ${BIPER_CONFIG_FOLDER})
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/biper-config.cmake
  "include(CMakeFindDependencyMacro)\nfind_dependency(Threads)\ninclude(\${CMAKE_CURRENT_LIST_DIR}/biper-targets.cmake)\n")
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/biper-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/biper-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/biper-config-version.cmake
  DESTINATION ${BIPER_CONFIG_FOLDER})
configure_file(native/capi/biper.pc.in biper.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/biper.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME libbiper-dev)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "the authors of biper")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Runs packed 1-bit neural networks in C and C++ applications")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
find_program(BIPER_SHLIBDEPS dpkg-shlibdeps)
if(BIPER_SHLIBDEPS AND NOT CMAKE_CROSSCOMPILING)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
else()
  set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6, libstdc++6")
endif()
include(CPack)
